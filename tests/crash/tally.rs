//! Kills by kind and what they broke, over all worlds of this process, and over sittings in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::finish::Proven;
use crate::lives::World;

/// The most kills that one world sees before it is proven: what is proven is kept, whatever comes of the rest.
const ROUND: u64 = 100;

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

pub fn number(name: &str) -> Option<u64> {
    setting(name)?.parse().ok()
}

/// The file that sittings add their worlds to, one a line.
fn state() -> Option<PathBuf> {
    setting("REBILLD_KILLS_STATE").map(PathBuf::from)
}

/// Seed and kills of each world of a sitting. A sitting after another one goes on with other seeds.
pub fn rounds(world: &str, seed: u64) -> Vec<(u64, u64)> {
    let kills = number("REBILLD_KILLS").unwrap_or(20).max(1);
    let before = kept().iter().filter(|line| line["world"] == world).count() as u64;
    let first = number("REBILLD_CRASH_SEED").unwrap_or(seed + 10 * before);
    (0..kills.div_ceil(ROUND)).map(|round| (first + 10 * round, ROUND.min(kills - round * ROUND))).collect()
}

fn kept() -> Vec<Value> {
    let text = state().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("the state of the kills is one JSON object a line")).collect()
}

/// Kills by kind, and what they broke.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    kills: BTreeMap<String, u64>,
    double: u64,
    lost: u64,
    stuck: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        for (kind, count) in &other.kills {
            *self.kills.entry(kind.clone()).or_default() += count;
        }
        self.double += other.double;
        self.lost += other.lost;
        self.stuck += other.stuck;
    }

    fn of(line: &Value) -> Self {
        let count = |value: &Value| value.as_u64().expect("a count");
        let kills = line["kills"].as_object().expect("kills by kind").iter().map(|(kind, value)| (kind.clone(), count(value)));
        Self { kills: kills.collect(), double: count(&line["double"]), lost: count(&line["lost"]), stuck: count(&line["stuck"]) }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> = self.kills.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let (all, Self { double, lost, stuck, .. }) = (self.kills.values().sum::<u64>(), self);
        write!(f, "{all} kills ({}): {double} double charges, {lost} lost outcomes, {stuck} stuck", kinds.join(", "))
    }
}

impl World {
    pub fn count(&mut self, kind: &'static str, times: u64) {
        *self.kills.entry(kind).or_default() += times;
    }

    /// Settles everything, adds what the kills have broken to the totals, and fails unless that is nothing.
    pub async fn prove(self, database: &'static str) {
        let (name, seed, kills) = (self.name, self.seed, self.kills.clone());
        let proven = self.settle().await;
        book(name, database, seed, &kills, &proven);
        proven.assert(&format!("{name}, seed {seed}"));
    }
}

/// Books a world that is over, before anything is asserted about it, and prints what there is by now.
fn book(world: &'static str, database: &'static str, seed: u64, kills: &BTreeMap<&'static str, u64>, proven: &Proven) {
    static ALL: Mutex<Tally> = Mutex::new(Tally { kills: BTreeMap::new(), double: 0, lost: 0, stuck: 0 });
    let mine = Tally {
        kills: kills.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
        double: proven.double() as u64,
        lost: proven.lost() as u64,
        stuck: proven.stuck() as u64,
    };
    let mut all = ALL.lock().expect("nobody panics while counting");
    all.add(&mine);
    println!("{world}, seed {seed}: {mine}");
    println!("in this run so far: {all}");
    let Some(path) = state() else { return };
    let kills: Map<String, Value> = mine.kills.iter().map(|(kind, count)| (kind.clone(), json!(count))).collect();
    let (double, lost, stuck) = (mine.double, mine.lost, mine.stuck);
    let line = json!({
        "world": world, "database": database, "seed": seed, "kills": kills, "double": double, "lost": lost, "stuck": stuck
    });
    let mut file = File::options().create(true).append(true).open(&path).expect("the state of the kills can be kept");
    // one write is one line
    file.write_all(format!("{line}\n").as_bytes()).expect("the state of the kills can be kept");
    let mut by_database: BTreeMap<String, Tally> = BTreeMap::new();
    for line in kept() {
        by_database.entry(line["database"].as_str().unwrap_or_default().to_owned()).or_default().add(&Tally::of(&line));
    }
    by_database.iter().for_each(|(database, tally)| println!("kept in {}: {database}: {tally}", path.display()));
}
