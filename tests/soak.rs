//! Three replicas on PostgreSQL, at work for a while under a steady load with faults on: nothing is charged twice, missed or lost, and no
//! memory, descriptor or connection leaks.
//!
//! `REBILLD_SOAK_SECONDS` sets how long: 60 by default, 900 in the large size.

#[path = "crash/book.rs"]
mod book;
#[path = "crash/finish.rs"]
mod finish;
#[path = "crash/lives.rs"]
mod lives;
#[path = "crash/places.rs"]
mod places;
#[path = "support/processes.rs"]
mod processes;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "soak/samples.rs"]
mod samples;
mod support;

use std::time::Duration;

use lives::World;
use processes::Daemon;
use rebilld::ports::clock::Clock;
use samples::Samples;

const REPLICAS: usize = 3;
/// Subscriptions that are written each second; each owes two to three periods at once.
const LOAD: usize = 2;
/// How long they are at work before anything is watched: pools fill, the program's pages are read, the allocator comes to rest.
const SETTLING: Duration = Duration::from_secs(20);
/// For whatever only has to happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(200);

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
fn seconds() -> u64 {
    std::env::var("REBILLD_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60).max(30)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_under_load_and_faults_leak_nothing_and_break_nothing() {
    let mut world = World::over("soak", 1).await;
    let mut daemons: Vec<Daemon> = (0..REPLICAS).map(|n| world.replica(n)).collect();
    let wanted = world.charges() + 20;
    world.posts(wanted).await;

    load(&mut world, SETTLING, None).await;
    let mut samples = Samples::new(&world.home.database, daemons.iter().map(Daemon::pid).collect()).await;
    let (start, before) = (world.clock.boot(), world.charges());
    load(&mut world, Duration::from_secs(seconds()), Some(&mut samples)).await;
    let (posts, length) = (world.charges() - before, world.clock.boot() - start);
    println!("soak: {:.0?}, {posts} POSTs in it; {samples}", length);
    for (n, daemon) in daemons.iter_mut().enumerate() {
        assert!(daemon.is_running(), "replica {n} has ended by itself");
        let work = lives::changes(&daemon.said()).len();
        assert!(work > 0, "replica {n} has done nothing");
    }
    samples.assert_steady();

    // what hangs would be waited for for 65 s
    world.proxy.calm();
    for daemon in &daemons {
        daemon.terminate();
    }
    for daemon in &mut daemons {
        assert_eq!(daemon.ended(PATIENCE).await.code(), Some(0));
    }
    samples.assert_all_gone().await;
    let proven = world.settle().await;
    println!(
        "soak: {} double charges, {} lost outcomes, {} stuck; I1 to I12 are checked",
        proven.double(),
        proven.lost(),
        proven.stuck()
    );
    proven.assert("soak");
}

/// Writes subscriptions for so long, second by second, and looks each time at what the replicas hold.
async fn load(world: &mut World, length: Duration, mut samples: Option<&mut Samples>) {
    let start = world.clock.boot();
    for second in 1.. {
        if let Some(samples) = samples.as_mut() {
            samples.take().await;
        }
        world.insert(LOAD).await;
        let passed = world.clock.boot() - start;
        if passed >= length {
            break;
        }
        // late on a busy machine, a second is not made up for
        tokio::time::sleep((Duration::from_secs(second)).saturating_sub(passed).min(Duration::from_secs(1))).await;
    }
}
