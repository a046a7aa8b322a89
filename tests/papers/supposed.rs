//! What a command supposes, and what its examples stand for: `4711` is a charge that is there, `HASH` the one that was shown.

use jiff::ToSpan;
use jiff::tz::TimeZone;
use rebilld::ports::clock::Clock;
use rebilld::time::SystemClock;
use serde_json::Value;

use crate::page::{Command, Page, is_sql};
use crate::processes::within;
use crate::world::World;

/// Whether it goes on until it is told to end.
pub fn stays(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!(words.as_slice(), ["rebilld", "sandbox", ..] | ["rebilld", "run"] | ["rebilld", "run", "--shadow"])
}

/// Sees to it that there is what the command supposes, and returns it as it is run.
pub async fn prepare(world: &mut World, page: &Page, command: &Command) -> String {
    let line = command.text.split(" #").next().unwrap_or_default().trim_end().trim_end_matches(" &").to_owned();
    if is_sql(&line) {
        return line.replace("WHERE …", "WHERE external_ref = 'sub-0001'");
    }
    let starts = |words: &str| line.starts_with(words);
    if starts("rebilld sandbox") {
        let port = if world.home("rebilld.db").exists() { 0 } else { world.sandbox };
        return format!("{line} --listen 127.0.0.1:{port}");
    }
    if starts("rebilld run") && stays(&line) && world.is_running(&line) {
        return "true".to_owned();
    }
    if starts("rebilld subscriptions import") {
        return import(world, page, &line);
    }
    if starts("rebilld imports confirm") || starts("rebilld imports reject") {
        let hash = held(world).await;
        return line.replace("HASH", &hash);
    }
    if starts("rebilld wave") {
        return line.replace("HASH", &blown(world).await);
    }
    if starts("rebilld journal verify") {
        let verified = world.json("rebilld journal verify");
        return line.replace("HASH", &named(&verified["head"])).replace("ID", "1");
    }
    if starts("rebilld config plan") {
        change(world);
    }
    if starts("rebilld config apply") || starts("rebilld config show --running") {
        return apply(world, &line).await;
    }
    if starts("rebilld healthcheck") {
        running(world).await;
    }
    if starts("rebilld hold release") {
        // the hour that it waits for has passed
        world.sql("UPDATE settings SET held_at = 1 WHERE held_at IS NOT NULL").await;
    }
    if starts("rebilld subscriptions price") {
        // a price begins with a period that is not opened yet, whenever this is run
        let today = SystemClock::new().now().to_zoned(TimeZone::UTC).date();
        return line.replace("2027-01-01", &(today + 3.months()).to_string());
    }
    if starts("rebilld takeover") {
        return takeover(world, &line).await;
    }
    if starts("rebilld catch-up open") {
        return line.replace("sub-0001", "sub-0010");
    }
    if starts("rebilld review rule") {
        return rule(world, &line).await;
    }
    if starts("rebilld events verify") {
        return signed(world, &line);
    }
    if starts("rebilld events replay") {
        let newest = world.number("SELECT max(seq) FROM events").await;
        return line.replace("120", "1").replace("180", &newest.to_string());
    }
    if starts("rebilld incidents") {
        let of_page = if page.name.contains("wrong-amount") { "wrong_payment" } else { "double_charge" };
        let id = world.number(&format!("SELECT id FROM incidents WHERE kind = '{of_page}'")).await;
        return words(&line, &[("7", &id.to_string())]);
    }
    if starts("rebilld backup") {
        return line.replace("/backups/", "");
    }
    let paid = "SELECT s.external_ref || ':' || c.period_start FROM charges c JOIN subscriptions s ON s.id = c.subscription_id WHERE c.state = 'paid'";
    let (paid, number) =
        (world.text(paid).await, world.text("SELECT CAST(id AS TEXT) FROM charges WHERE state = 'review'").await);
    words(&line, &[("REF:PERIOD_START", &paid.unwrap_or_default()), ("4711", &number.unwrap_or_default())])
}

/// A line with whole words replaced.
fn words(line: &str, by: &[(&str, &str)]) -> String {
    let other =
        |word: &str| by.iter().find(|(name, _)| *name == word).map_or_else(|| word.to_owned(), |(_, value)| (*value).to_owned());
    line.split(' ').map(other).collect::<Vec<_>>().join(" ")
}

/// What was shown; a command that is given what was not is refused.
fn named(value: &Value) -> String {
    value.as_str().unwrap_or("nothing-was-shown").to_owned()
}

/// The file that it imports: the page's own, or one that looks wrong where the page is about that.
fn import(world: &World, page: &Page, line: &str) -> String {
    let name = line.split_whitespace().find(|word| word.ends_with(".csv")).unwrap_or_default().to_owned();
    match page.fenced("csv") {
        Some(csv) => world.write(&name, csv),
        None if name == "book.csv" => world.write(&name, &wrong_rows()),
        None => world.write(&name, "account,external_ref,plan,customer_uid,anchor\nmain,sub-0020,monthly,good-20,2030-01-31\n"),
    }
    if !line.contains("HASH") {
        return line.to_owned();
    }
    let told = world.json(&format!("rebilld subscriptions import {name} --dry-run"));
    line.replace("HASH", &named(&told["held_hash"]))
}

/// As many as are weighed, and all of them too large.
fn wrong_rows() -> String {
    let rows: String = (100..130).map(|n| format!("main,sub-{n},monthly,good-{n},2030-01-{:02},990000\n", n - 99)).collect();
    format!("account,external_ref,plan,customer_uid,anchor,amount\n{rows}")
}

/// The hash of rows that are held.
async fn held(world: &mut World) -> String {
    world.reset(false);
    world.write("book.csv", &wrong_rows());
    world.shell("rebilld subscriptions import book.csv");
    let rows = world.json("rebilld imports list");
    named(&rows[0]["hash"])
}

/// An account whose fuse has blown, and the hash of its wave.
async fn blown(world: &mut World) -> String {
    world.reset(false);
    // nothing else may fall due while the wave is looked at
    world.sql("UPDATE subscriptions SET status = 'cancelled' WHERE external_ref = 'sub-0010'").await;
    world.subscribe(&[("sub-0030", "good-30")]).await;
    world.sql("UPDATE subscriptions SET amount = 6000000 WHERE external_ref = 'sub-0030'").await;
    running(world).await;
    let shown = within(std::time::Duration::from_secs(60), async || {
        let shown = world.json("rebilld wave show");
        shown[0]["hash"].as_str().map(str::to_owned)
    });
    shown.await.expect("the fuse has blown")
}

async fn running(world: &mut World) {
    if !world.is_running("rebilld run") {
        world.keep_running("rebilld run").await.unwrap_or_else(|why| panic!("a daemon {why}"));
    }
}

/// `new.toml`: the config with other prices, at another time, and with windows.
fn change(world: &World) {
    let config = world
        .read("rebilld.toml")
        .replace("amount = 9900", "amount = 10900")
        .replace("charge_time = \"00:00\"", "charge_time = \"14:00\"");
    let config = config
        .replace("hours = \"00:00-24:00\"", "hours = \"09:00-22:00\"")
        .replace("blackouts = \"\"", "blackouts = \"23:30-00:40 Asia/Seoul\"");
    world.write("new.toml", &config);
}

/// A daemon, and a config whose prices it does not have yet.
async fn apply(world: &mut World, line: &str) -> String {
    running(world).await;
    if line.contains("apply") {
        change(world);
        let new = world.read("new.toml");
        world.write("rebilld.toml", &new);
    }
    let Some((_, rest)) = line.split_once("--confirm ") else { return line.to_owned() };
    let example = rest.split(' ').next().unwrap_or_default();
    let planned = world.json("rebilld config plan");
    line.replace(example, &named(&planned["hash"]))
}

/// What the last check has found, and the key that is booked.
async fn takeover(world: &mut World, line: &str) -> String {
    if line.contains("check") {
        return line.to_owned();
    }
    world.reset(false);
    world.shell("rebilld takeover check");
    if line.contains("release") {
        // a charge waits for the key, whose bookings went as late as their time
        world.subscribe(&[("sub-0031", "good-3")]).await;
        running(world).await;
        world.rest().await.expect("a daemon at rest");
        world.take_bookings_away("good-3");
        world.sql("UPDATE key_bookings SET first_at = 1 WHERE customer_uid = 'good-3'").await;
    }
    let line = line.replace("card-17", "good-3");
    if !line.contains("HASH") {
        return line;
    }
    let shown = world.json("rebilld takeover unschedule --reason x");
    line.replace("HASH", &named(&shown["confirm"]))
}

/// A charge in review that may be ruled so: one of which the gateway shows a payment, or one that it has never seen.
async fn rule(world: &mut World, line: &str) -> String {
    world.reset(false);
    let given: Vec<&str> = line.split_whitespace().collect();
    let (charge, ruling) = (given[3], given[4]);
    let found = |there: &str| {
        format!(
            "SELECT CAST(c.id AS TEXT) FROM charges c JOIN subscriptions s ON s.id = c.subscription_id
                 WHERE c.state = 'review' AND (s.external_ref = 'sub-0004') = {there}"
        )
    };
    let id = world.text(&found(if ruling == "paid" { "TRUE" } else { "FALSE" })).await.unwrap_or_default();
    // a charge is named as the page names it
    let kind = match charge {
        number if number.chars().all(|c| c.is_ascii_digit()) => "CAST(c.id AS TEXT)",
        both if both.contains(':') => "s.external_ref || ':' || c.period_start",
        _ => "s.external_ref",
    };
    let name = format!("SELECT {kind} FROM charges c JOIN subscriptions s ON s.id = c.subscription_id WHERE c.id = '{id}'");
    let name = world.text(&name).await.unwrap_or_else(|| "nothing-in-review".to_owned());
    let payment = match ruling {
        "paid" => given[5],
        _ => "-",
    };
    let shown = world.shell(&format!("rebilld charges show {id} --output json")).out;
    words(line, &[(charge, &name), (payment, &imp_uid(&shown))])
}

/// The first `imp_uid` that a story names.
fn imp_uid(story: &str) -> String {
    let found = story.find("imps_").map(|start| story[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_'));
    found.map_or_else(|| "nothing-was-shown".to_owned(), Iterator::collect)
}

/// A delivery that was signed now, with its body in the file.
fn signed(world: &World, line: &str) -> String {
    world.write("body.json", "{}");
    let python = "import base64, hashlib, hmac, sys, time; t = str(int(time.time())); \
        k = base64.b64decode(open('crm.secret').read().strip().removeprefix('whsec_')); \
        print(t, 'v1,' + base64.b64encode(hmac.new(k, f'evt_1.{t}.'.encode() + open('body.json','rb').read(), hashlib.sha256).digest()).decode())";
    let said = world.done(&format!("python3 -c \"{python}\""));
    let (at, signature) = said.trim().split_once(' ').expect("an instant and a signature");
    words(line, &[("evt_…", "evt_1"), ("1795337542", at), ("'v1,…'", &format!("'{signature}'"))])
}
