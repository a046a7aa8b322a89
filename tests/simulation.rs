//! A seeded simulation of the real engine and the real store: a clock of its own, up to five replicas, a gateway whose ledger is the
//! oracle, and a crash at any await. After each run docs/protocol.md's invariants I1 to I12 are checked (docs/proof.md).
//!
//! `REBILLD_SIM_MONTHS` sets how many subscription-months are run, `REBILLD_SIM_SEED` runs one seed, `REBILLD_SIM_LOG` prints its log,
//! `REBILLD_SIM_CHARGE` what both sides hold of the charge whose ids begin so,
//! `REBILLD_SIM_STATE` names a file in which totals are kept, so that a campaign goes on where it was stopped. On PostgreSQL it is
//! `REBILLD_SIM_POSTGRES_MONTHS` and `REBILLD_SIM_POSTGRES_STATE`.

#[path = "simulation/book.rs"]
mod book;
#[path = "simulation/campaign.rs"]
mod campaign;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/logs.rs"]
mod logs;
#[path = "simulation/lookups.rs"]
mod lookups;
#[path = "simulation/operations.rs"]
mod operations;
#[path = "simulation/operator.rs"]
mod operator;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/restore.rs"]
mod restore;
#[path = "simulation/shrink.rs"]
mod shrink;
#[path = "simulation/sometimes.rs"]
mod sometimes;
#[path = "simulation/stage.rs"]
mod stage;
#[path = "simulation/store.rs"]
mod store;
mod support;
#[path = "simulation/tally.rs"]
mod tally;
#[path = "simulation/witness.rs"]
mod witness;
#[path = "simulation/world.rs"]
mod world;

use std::sync::Arc;

use disk::Disk;
use faults::{Act, DAY, Fault, Swarm};
use futures::future::{FutureExt, join};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::SignedDuration;
use stage::Stage;
use world::{Outcome, World};

/// Subscription-months of a run of all tests.
const MONTHS: u64 = 50_000;

fn run(seed: u64, swarm: Swarm) -> Outcome {
    simulate(seed, swarm, async |world| world.run().await)
}

/// Has a world of its own do something, on this thread.
fn simulate<T>(seed: u64, swarm: Swarm, what: impl AsyncFnOnce(World) -> T) -> T {
    on(Disk::file(), Swarm { seed, ..swarm }, what)
}

fn on<T>(disk: Disk, swarm: Swarm, what: impl AsyncFnOnce(World) -> T) -> T {
    operations::begin(&swarm.operations);
    let world = World::new(swarm, disk);
    let stage = Arc::clone(&world.shared.stage);
    stage.run(what(world))
}

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    setting(name)?.parse().ok()
}

fn complain(seed: u64, outcome: &Outcome) -> Option<String> {
    let broken: Vec<String> = outcome
        .verdicts
        .iter()
        .filter(|verdict| !verdict.holds())
        .map(|verdict| format!("  {} {}: {:#?}", verdict.name, verdict.says, verdict.broken))
        .collect();
    (!broken.is_empty()).then(|| format!("seed {seed} ({:?})\n{}", outcome.swarm, broken.join("\n")))
}

/// A history that was once a failure, and has to stay a good one.
fn holds(swarm: Swarm) -> Outcome {
    held_by(run, swarm)
}

fn held_by(run: fn(u64, Swarm) -> Outcome, swarm: Swarm) -> Outcome {
    logs::capture();
    let outcome = run(swarm.seed, swarm);
    if let Some(complaint) = complain(outcome.swarm.seed, &outcome) {
        panic!("{complaint}");
    }
    outcome
}

/// What a campaign came to; nothing in the processes that help it.
fn conclude(totals: Option<campaign::Totals>) {
    if let Some(totals) = totals {
        totals.print();
        sometimes::looked_at(&totals.counts);
        sometimes::check(&totals.counts, totals.months);
    }
}

/// The one seed that was asked for, if one was.
fn only_one(run: fn(u64, Swarm) -> Outcome) -> bool {
    let Some(seed) = number("REBILLD_SIM_SEED") else { return false };
    let outcome = held_by(run, Swarm::of(seed));
    println!("seed {seed}: {} months, {} charges\n{:#?}", outcome.months, outcome.charges, outcome.counts);
    true
}

#[test]
fn no_seed_breaks_an_invariant() {
    logs::capture();
    if only_one(run) {
        return;
    }
    let months = number("REBILLD_SIM_MONTHS").unwrap_or(MONTHS);
    let state = setting("REBILLD_SIM_STATE").map(Into::into);
    conclude(campaign::run("no_seed_breaks_an_invariant", months, state, run));
}

/// The same on PostgreSQL, without copies that come back, and without the claim that a seed has one history.
fn run_on_postgres(seed: u64, swarm: Swarm) -> Outcome {
    let swarm = Swarm { seed, restores: vec![], ..swarm };
    on(Disk::server(), swarm, async |world| world.run().await)
}

#[test]
fn no_seed_breaks_an_invariant_on_postgres() {
    logs::capture();
    if only_one(run_on_postgres) {
        return;
    }
    let months = number("REBILLD_SIM_POSTGRES_MONTHS").unwrap_or(500);
    let state = setting("REBILLD_SIM_POSTGRES_STATE").map(Into::into);
    conclude(campaign::run("no_seed_breaks_an_invariant_on_postgres", months, state, run_on_postgres));
}

/// Whatever is drawn, and however many replicas race: a database is waited for on the spot.
#[test]
fn the_same_seed_has_the_same_history() {
    for swarm in [Swarm::of(3), Swarm { replicas: 3, crashes: Some(500), slow: 20, stalls: 10, ..Swarm::of(11) }] {
        let swarm = Swarm { subscriptions: 30, days: 60, ..swarm };
        let histories = [run(swarm.seed, swarm.clone()).history, run(swarm.seed, swarm.clone()).history];
        let differs = histories[0].lines().zip(histories[1].lines()).find(|(one, other)| one != other);
        assert!(histories[0] == histories[1], "seed {}: {differs:#?}", swarm.seed);
    }
}

/// A charge is claimed half a second early. One that is not to be sent was put off until the very instant at which it was due before,
/// and so claimed and put off without end until then.
#[test]
fn what_waits_for_a_card_in_vain_is_not_claimed_again_and_again() {
    let outcome = holds(Swarm { seed: 9, subscriptions: 12, days: 60, replicas: 1, declining: 100, ..Swarm::default() });
    assert!(outcome.counts["no new card came in time"] > 0);
}

/// The answer is a truth, so it was judged anew when its claim was found gone: with the COMMIT that nobody had heard of.
#[test]
fn a_wrong_payment_is_told_once_though_the_database_did_not_answer() {
    let (kinds, acks) = (vec![Fault::WrongCustomer], 300);
    let swarm = Swarm { seed: 35, subscriptions: 12, days: 60, replicas: 1, kinds, rate: 500, ..Swarm::default() };
    let outcome = holds(Swarm { lost_acknowledgements: acks, ..swarm });
    assert!(outcome.counts["answer: paid, by another card"] > 2);
}

/// An audit settles what was paid under the third id; what the first two were answered was forgotten with the database, and nobody
/// had asked for the second.
#[test]
fn a_restored_database_learns_of_every_id_that_was_tried_before() {
    let restores = vec![(7 * DAY, 8 * DAY)];
    let outcome =
        holds(Swarm { seed: 48, subscriptions: 150, days: 30, replicas: 1, declining: 60, restores, ..Swarm::default() });
    assert!(outcome.counts["operator: a hold is released"] > 0);
}

/// The copy knew a kill switch that had been turned off since: who ends the hold puts it as it was, or nothing is ever sent again.
#[test]
fn a_switch_that_an_old_copy_turns_on_again_is_turned_off() {
    let (restores, acts) = (vec![(15_271, 5_017), (57_662, 9_514)], vec![Act::WrongAmount, Act::Kill, Act::Pause]);
    let swarm = Swarm { subscriptions: 12, days: 60, restores, acts, ..Swarm::of(185) };
    assert!(holds(swarm).counts["operator: a hold is released"] > 0);
}

/// Two failed records that the old copy knew nothing of were adopted one after the other, with nothing sent in between: both reviews
/// were told under one id, and whoever receives events had dropped the second.
#[test]
fn a_second_review_is_heard_though_nothing_was_sent_since_the_first() {
    let acts = vec![Act::ImportAgain, Act::WrongAmount, Act::Kill, Act::Prices, Act::Plan, Act::Card, Act::Rule];
    let restores = vec![(8 * DAY, 6 * DAY), (38 * DAY, 7 * DAY)];
    let swarm =
        Swarm { seed: 100_004, subscriptions: 10, days: 67, replicas: 1, declining: 2, restores, acts, ..Swarm::default() };
    assert_eq!(holds(swarm).counts["charge.review"], 4);
}

/// A refused request was taken for absent, and sent again by the database that an older copy has replaced since: what made a record then
/// is in no book here, and the witness held it against the first send.
#[test]
fn what_a_database_that_is_gone_sent_again_is_held_against_nobody() {
    use Fault::*;
    let kinds = vec![
        Unreachable,
        Invisible,
        Duplicate,
        OverloadBefore,
        Unauthorized,
        TooLarge,
        Foreign,
        WrongCurrency,
        Ready,
        CodeCard,
        CodeFunds,
        CodeOdd,
        CodeMerchant,
    ];
    let operations = operations::Operations::only(&[
        "POST 1 of sbs4rmu55fkuntnjqwopahzmefpr01 is CodeOdd",
        "POST 1 of sb6pmqkhfx246pg7iw2i77gapuus01 is Unreachable",
        "POST 2 of sb6pmqkhfx246pg7iw2i77gapuus01 is CodeMerchant",
    ]);
    let restores = vec![(48_183, 8702)];
    let swarm =
        Swarm { seed: 40, subscriptions: 10, days: 40, replicas: 1, kinds, rate: 250, restores, operations, ..Swarm::default() };
    let outcome = holds(swarm);
    assert_eq!(outcome.counts["POST: code about the merchant"], 1);
}

/// Set forward by an hour, the database's clock says that this morning's wave is due; set back, that none is.
#[test]
fn nothing_is_sent_for_q_after_the_clock_has_jumped() {
    for (hour, by) in [(240, 3600), (241, 3600), (240, -3600), (241, -3600)] {
        let swarm = Swarm { seed: 9, subscriptions: 100, days: 60, replicas: 2, jumps: vec![(hour, by)], ..Swarm::default() };
        let outcome = holds(swarm);
        let said = outcome.verdicts.iter().find(|verdict| verdict.name == "S2").unwrap();
        assert_eq!(said.checked, 1);
    }
}

/// A batch that took all that was due leaves nothing to ask for before it lands: on PostgreSQL each question is a round trip.
#[test]
fn what_is_under_way_is_not_asked_for_again() {
    let kinds = vec![Fault::LostAfter];
    let outcome = holds(Swarm { seed: 9, subscriptions: 60, days: 60, replicas: 1, kinds, rate: 500, ..Swarm::default() });
    let asked = |what: &str| outcome.counts.get(&format!("store: {what}")).copied().unwrap_or(0);
    let flights = asked("claim") + asked("step_schedules") + asked("due_deliveries");
    // one look before it, one after it has landed, and a few at which nothing is due
    assert!(asked("next_due") <= 2 * flights + flights / 4, "{flights} batches\n{:#?}", outcome.counts);
}

/// Of a crowd that is not looked at for a while, the first sleeper to wake calls whoever waits for the crowd, the second nobody.
#[test]
fn time_moves_on_though_a_sleeper_wakes_nobody() {
    let start = "2026-11-22T00:00:00Z".parse().unwrap();
    let stage = Stage::new(start, 1);
    stage.run(async {
        let minutes = |n| stage.sleep(SignedDuration::from_mins(n));
        let mut crowd: FuturesUnordered<_> = [join(minutes(1), minutes(2))].into_iter().collect();
        assert!(crowd.next().now_or_never().is_none());
        minutes(3).await;
        assert!(crowd.next().await.is_some());
    });
    assert_eq!(stage.now(), start + SignedDuration::from_mins(3));
}

#[test]
fn an_old_copy_of_the_database_breaks_no_invariant() {
    let mut held = 0;
    for seed in 5_000..5_003 {
        let restores = vec![(10 * DAY, 30 * DAY)];
        let outcome = holds(Swarm { subscriptions: 30, days: 60, restores, jumps: vec![], ..Swarm::of(seed) });
        assert_eq!(outcome.counts["fault: restored"], 1);
        held += outcome.counts.get("restore: held").copied().unwrap_or(0);
    }
    assert!(held > 0, "no copy was behind what had been sent");
}

/// Approvals went on while everything settled: one of the last day had its look-up after the end (seed 56).
#[test]
fn what_is_approved_late_is_looked_up_before_the_end() {
    let (declining, late_approvals) = (100, 1000);
    let swarm =
        Swarm { seed: 56, subscriptions: 40, days: 60, replicas: 1, declining, late_approvals, autumn: true, ..Swarm::default() };
    assert!(holds(swarm).counts["R6 a late payment overrides"] > 0);
}

/// Those that come up after it settle what it left, so nothing but its end tells of it.
#[test]
fn a_replica_that_panics_fails_its_seed() {
    let one = |seed, swarm| {
        simulate(seed, swarm, async |mut world| {
            world.replicas.push(tokio::spawn(async { panic!("a bug") }));
            world.run().await
        })
    };
    let swarm = Swarm { seed: 1, subscriptions: 2, days: 40, ..Swarm::default() };
    let why = campaign::attempt(&swarm, one).err();
    assert_eq!(why.as_deref(), Some("seed 1 panicked: a bug"));
    assert!(campaign::attempt(&swarm, run).is_ok());
}
