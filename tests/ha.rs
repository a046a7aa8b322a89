//! High availability with the real parts: two PostgreSQL clusters in streaming replication, pgbouncer in transaction mode before
//! them, three daemons under load. Replicas, the pooler and the primary are killed, and the standby is promoted.
//!
//! `REBILLD_FAILOVERS` sets how many primaries die, one after the other.

#[path = "crash/book.rs"]
mod book;
#[path = "support/bouncer.rs"]
mod bouncer;
#[path = "crash/finish.rs"]
mod finish;
#[path = "crash/places.rs"]
mod places;
#[path = "support/processes.rs"]
mod processes;
mod support;
#[path = "ha/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use processes::until;
use rebilld::domain::proof::LedgerStatus;
use world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_and_repeats_nothing() {
    let mut world = World::new("failover").await;
    world.replicate_synchronously().await;
    world.start_replicas(3);
    world.more_posts(20).await;
    for round in 0..world::failovers() {
        world.kill_replica(round % 3);
        world.more_posts(15).await;
        world.start_replica(round % 3);

        world.bouncer.kill9();
        world.insert(40).await;
        world.bouncer.start_again();
        world.more_posts(15).await;

        world.insert(150).await;
        world.more_posts(10).await;
        world.primary.kill9();
        world.fail_over().await;
        let took = world.resumed().await;
        println!("failover {round}: the next POST came {took:?} after the promotion");

        // its state directory remembers sends that the new primary has to know
        world.kill_replica((round + 1) % 3);
        world.start_replica((round + 1) % 3);
        world.insert(40).await;
        world.more_posts(30).await;
        assert_eq!(world.held().await, None, "nothing was lost: nothing is held");
        if round + 1 < world::failovers() {
            world.follow();
            world.replicate_synchronously().await;
        }
    }
    world.prove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lacks_commits_is_held_when_it_is_promoted() {
    let mut world = World::new("lag").await;
    world.start_replicas(3);
    world.more_posts(20).await;
    world.let_the_standby_lag().await;
    world.insert(60).await;
    world.more_posts(30).await;
    world.primary.kill9();
    world.fail_over().await;
    let why = until("the promoted standby is held", world::PATIENCE, async || world.held().await).await;
    assert!(why.contains("does not know sends"), "{why}");
    assert_eq!(world.number("SELECT count(*) AS n FROM accounts WHERE armed_incarnation IS NOT NULL").await, 0);

    // a hold is read a second later at the latest, and whoever is started anew finds it
    world.kill_replica(0);
    world.start_replica(0);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    until("what was on its way is done", world::PATIENCE, async || world.is_settled().then_some(())).await;
    let posts = world.gateway.charges();
    let open = world.number("SELECT count(*) AS n FROM charges").await;
    world.insert(30).await;
    let opened = "SELECT count(*) AS n FROM charges";
    until("periods open all the same", world::PATIENCE, async || (world.number(opened).await > open).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.gateway.charges(), posts, "nothing is sent on hold");
    let ledger = world.gateway.ledger().neutral();
    let paid = || ledger.payments.iter().filter(|payment| payment.status == LedgerStatus::Paid);
    let periods: BTreeSet<&str> = paid().map(|payment| payment.merchant_uid.get(..28).expect("an id")).collect();
    assert_eq!(periods.len(), paid().count(), "and no period was paid twice");
}
