//! The papers do as they say: each command of a block in README.md and docs/ is run by the real binary, in a world in which there is what
//! the page supposes. Each page has a world of its own.
//!
//! What is not run says so, where a reader sees it: `# not run by tests: WHY` behind a command, or under its block the line
//! `*Not run by tests: WHY.*` or `` *Run by `scripts/NAME`.* ``. A command that is neither run nor marked fails the test, and so does a mark
//! on a command of this program whose WHY is none of [`page::REASONS`].
//!
//! A command has to end with 0, unless its comment names the exit code: `(exit 75)` says that it is so, `exit 65 if …` that it may be.
//! Output that a page shows under a command (`$ rebilld …`) is held against what the command says, up to values that change.

#[path = "papers/page.rs"]
mod page;
#[path = "support/processes.rs"]
mod processes;
#[path = "papers/shown.rs"]
mod shown;
#[path = "papers/supposed.rs"]
mod supposed;
#[path = "papers/world.rs"]
mod world;

use std::path::Path;

use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;

use page::{Command, Fate, Page};
use world::World;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs one command of a page. `Err`: what is wrong with it, or with the page.
async fn follow(world: &mut World, page: &Page, command: &Command) -> Result<(), String> {
    let line = supposed::prepare(world, page, command).await;
    if supposed::stays(&line) {
        world.keep_running(&line).await?;
        return if line == "rebilld run" { world.rest().await } else { Ok(()) };
    }
    if page::is_sql(&line) {
        return match world.try_sql(&line).await {
            Ok(0) => Err("writes no row".to_owned()),
            done => done.map(drop),
        };
    }
    let done = world.shell(&line);
    if !command.codes.contains(&done.code) {
        return Err(format!("ended with {} and not {:?}, run as `{line}`: {}{}", done.code, command.codes, done.out, done.err));
    }
    if line.starts_with("rebilld ") && done.err.contains("panicked") {
        return Err(format!("panicked: {}", done.err));
    }
    shown::compare(&command.shown, &done.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_is_run_or_says_why_not() {
    let mut world = World::new().await;
    let (mut wrong, mut run) = (Vec::new(), 0);
    let clock = SystemClock::new();
    for page in page::all(root()) {
        let began = clock.boot();
        wrong.extend(page.wrong.iter().cloned());
        if !page.commands.iter().any(|command| command.fate == Fate::Run) {
            continue;
        }
        world.begin(&page);
        for command in page.commands.iter().filter(|command| command.fate == Fate::Run) {
            run += 1;
            if let Err(why) = follow(&mut world, &page, command).await {
                wrong.push(format!("{}:{}: {}: {why}", page.name, command.line, command.text));
            }
        }
        println!("{:?} {}", clock.boot() - began, page.name);
        wrong.extend(world.end().await.err().map(|why| format!("{}: {why}", page.name)));
    }
    assert!(wrong.is_empty(), "{run} commands were run, and of the papers this is wrong:\n{}\n", wrong.join("\n"));
    assert!(run > 150, "only {run} commands were run");
}
