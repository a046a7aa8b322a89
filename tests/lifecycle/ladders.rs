//! Simulated years under several ladders: what they bring back, and that no seed breaks a cap.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::{SignedDuration, Timestamp};
use rebilld::app::simulate::{SimulateOptions, Simulated, simulate};
use rebilld::config::{Environment, Settings, Sources, load};
use rebilld::domain::dunning::{DAY, KEY_WINDOW, MOST_PER_KEY, MOST_TRANSIENT, MOST_TRIES};
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};

use super::rig::{Engine, World, at};

const CONFIG: &str = r#"
tag = "sb"
[accounts.main]
[dunning.eager]
preset = "8-in-14-days"
[dunning.slow]
preset = "3-5-7"
[dunning.growing]
exponential = { initial = "6h", factor = 2, max = "3d", tries = 7, jitter = 0.2 }
classes.SOFT_FUNDS.exponential = { initial = "1d", factor = 1.5, tries = 5, jitter = 0.1 }
[plans.default]
every = "1 month"
amount = 9900
title = "Monthly"
[plans.eager]
every = "1 month"
amount = 9900
title = "Monthly"
dunning = "eager"
[plans.slow]
every = "1 month"
amount = 9900
title = "Monthly"
dunning = "slow"
[plans.weekly]
every = "1 week"
amount = 9900
title = "Weekly"
dunning = "growing"
while_past_due = "continue"
"#;

fn settings() -> Settings {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CONFIG.as_bytes()).unwrap();
    let sources = Sources { files: vec![file.path().to_owned()], environment: Environment::default(), options: Vec::new() };
    load(&sources).unwrap_or_else(|errors| panic!("{errors}")).settings
}

/// A past try: charge, key, how it ended, when it was sent.
struct Try {
    charge: i64,
    key: String,
    state: String,
    at: Timestamp,
}

async fn run(world: &World, settings: &Settings, seed: u64) -> (Simulated, Vec<Try>) {
    let directory = tempfile::tempdir().unwrap();
    let options = SimulateOptions { until: at("2029-01-03T12:00"), declines: 30, seed };
    let report = simulate(&world.db, settings, directory.path(), at("2028-01-03T12:00"), &options, |_| {}).await.unwrap();
    let url = format!("sqlite:{}", directory.path().join("simulation.db").display());
    let copy = Database::open(&url, OpenOptions::default()).await.unwrap();
    let text =
        "SELECT a.charge_id, a.customer_uid, a.state, max(s.begun_at) AS at FROM attempts a JOIN sends s ON s.attempt_id = a.id
        WHERE a.state IN ('declined', 'refused') GROUP BY a.id ORDER BY at";
    let rows = copy.read(&Statement::same("tries", text), &[]).await.unwrap();
    let tries = rows.iter().map(|row| Try {
        charge: row.int("charge_id").unwrap(),
        key: row.text("customer_uid").unwrap(),
        state: row.text("state").unwrap(),
        at: row.at("at").unwrap(),
    });
    (report, tries.collect())
}

fn groups<'a, K: Ord>(tries: &'a [Try], state: &str, key: impl Fn(&'a Try) -> K) -> BTreeMap<K, Vec<Timestamp>> {
    let mut groups: BTreeMap<K, Vec<Timestamp>> = BTreeMap::new();
    for one in tries.iter().filter(|one| one.state == state) {
        groups.entry(key(one)).or_default().push(one.at);
    }
    groups
}

/// Whether more than `most` of these fall into a window anywhere.
fn crowded(times: &[Timestamp], most: usize, window: SignedDuration) -> bool {
    times.windows(most + 1).any(|some| some[most].duration_since(some[0]) < window)
}

#[tokio::test]
async fn no_seed_breaks_a_cap_and_each_ladder_tells_what_it_brought_back() {
    let world = World::new(Engine::Sqlite, "2028-01-03T12:00", []).await;
    for (plan, many) in [("default", 12), ("eager", 12), ("slow", 12), ("weekly", 4)] {
        for n in 0..many {
            world.subscribe(&format!("{plan}-{n}"), plan, &format!("2028-01-{:02}", 4 + n), &[]).await;
        }
    }
    let settings = settings();
    for seed in 1..=3 {
        let (report, tries) = run(&world, &settings, seed).await;
        assert!(tries.len() > 150, "{} tries were declined", tries.len());
        for (charge, times) in groups(&tries, "declined", |one| one.charge) {
            assert!(times.len() <= usize::from(MOST_TRIES), "seed {seed}, charge {charge}: {times:?}");
            assert!(!crowded(&times, 1, DAY), "seed {seed}, charge {charge}: {times:?}");
        }
        for (key, times) in groups(&tries, "declined", |one| one.key.clone()) {
            assert!(!crowded(&times, MOST_PER_KEY, KEY_WINDOW), "seed {seed}, {key}: {times:?}");
        }
        for (key, times) in groups(&tries, "refused", |one| one.key.clone()) {
            assert!(!crowded(&times, MOST_TRANSIENT, DAY), "seed {seed}, {key}: {times:?}");
        }
        let names: Vec<&str> = report.ladders.keys().map(String::as_str).collect();
        assert_eq!(names, ["default", "eager", "growing", "slow"]);
        for (name, ladder) in &report.ladders {
            assert_eq!(ladder.declined, ladder.recovered + ladder.unpaid + ladder.open, "seed {seed}, {name}");
            assert_eq!(ladder.recovered, ladder.by_try.values().sum::<u64>(), "seed {seed}, {name}: by try");
            assert_eq!(ladder.recovered, ladder.by_day.iter().sum::<u64>(), "seed {seed}, {name}: by day");
            assert!((200..850).contains(&ladder.rate().unwrap()), "seed {seed}, {name}: {ladder:?}");
        }
        assert_eq!(report.ladders["slow"].by_day[0], 0, "its first retry is on the third day");
        assert!(report.ladders["eager"].by_try.keys().max() > report.ladders["slow"].by_try.keys().max());
    }
}
