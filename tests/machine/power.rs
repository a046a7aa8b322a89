//! Power that is cut, and syncs that fail, under a daemon on SQLite: each disk that may be left is opened by the product and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rebilld::ports::store::Store;
use rebilld::store::deeds;
use rebilld::store::mark::MarkFile;
use rebilld::store::sql::Statement;
use rebilld::store::{Database, OpenOptions};

use crate::needs::{is_large, shim};
use crate::processes::{Daemon, is_locked_out};
use crate::recording::{Disk, Kept, Luck, Recording, Step};
use crate::world::World;

/// How often a command is given that others keep from its work.
const PATIENT: usize = 12;

/// A world whose daemons are recorded.
pub struct Recorded {
    pub world: World,
    library: PathBuf,
    lives: usize,
}

/// A daemon, and what was on the disk before it.
pub struct Life {
    pub daemon: Daemon,
    record: PathBuf,
    before: Disk,
}

/// Which syncs fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    Database = b'S' as isize,
    StateDirectory = b'M' as isize,
}

impl Syncs {
    /// What a daemon says of it.
    fn complaint(self) -> &'static str {
        match self {
            Self::Database => "disk I/O error",
            Self::StateDirectory => "the high-water mark cannot be written to the state directory: nothing is sent",
        }
    }
}

/// What was found over all disks.
#[derive(Debug, Default)]
pub struct Found {
    disks: usize,
    cuts: BTreeSet<usize>,
    charges: i64,
    events: usize,
    /// Disks whose state directory remembers what an operator did.
    deeds: usize,
}

impl Recorded {
    pub async fn new(name: &'static str, count: usize) -> Self {
        let world = World::new(name, None, count).await;
        let library = shim(&world.home.path(""));
        Self { world, library, lives: 0 }
    }

    fn place(&self, file: Kept) -> PathBuf {
        match file {
            Kept::Database => self.world.home.path("rebilld.db"),
            Kept::Wal => self.world.home.path("rebilld.db-wal"),
            Kept::Mark => self.world.home.path("state/rebilld.mark"),
            Kept::Journal => self.world.home.path("state/rebilld.journal"),
        }
    }

    /// The file whose first byte says what fails.
    fn fault(&self) -> PathBuf {
        self.world.home.path("fault")
    }

    /// From now on every sync of the database fails, or of the state directory.
    pub fn syncs_fail(&self, of: Syncs) {
        fs::write(self.fault(), [of as u8]).expect("a file can be written");
    }

    pub fn syncs_work(&self) {
        fs::remove_file(self.fault()).expect("they have failed");
    }

    pub fn start(&mut self) -> Life {
        self.lives += 1;
        let record = self.world.home.path(&format!("record-{}", self.lives));
        let before = Kept::ALL.into_iter().filter_map(|file| Some((file, fs::read(self.place(file)).ok()?))).collect();
        let variables = self.variables(&record);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let daemon = self.world.start_under(&variables);
        Life { daemon, record, before }
    }

    fn variables(&self, record: &Path) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("SHIM_DATABASE", text(&self.place(Kept::Database))),
            ("SHIM_RECORD", text(record)),
            ("SHIM_FAULT", text(&self.fault())),
        ]
    }

    /// An operator does something while the daemon works. Once the command has ended, no power cut may take it away.
    pub fn deed(&self, life: &Life, arguments: &[&str]) {
        for _ in 0..PATIENT {
            let mut command = self.world.home.rebilld(arguments);
            let output = command.envs(self.variables(&life.record)).output().expect("rebilld can be run");
            let said = String::from_utf8_lossy(&output.stderr);
            // others hold the database, or the file that it is to be remembered in, for longer than is waited for
            if !is_locked_out(output.status, &said) && !said.contains("could forget this") {
                assert!(output.status.success() && !said.contains("warning"), "{arguments:?}: {said}");
                return;
            }
        }
        panic!("{arguments:?}: somebody else is always at it, {PATIENT} times over");
    }

    /// The process is gone, and the disk is one of those that this moment may leave.
    pub fn power_cut(&mut self, life: Life) -> Recording {
        life.daemon.kill();
        let recording = Recording::read(life.before, &life.record);
        let disk = recording.disk(recording.steps.len(), Luck::Torn, &mut self.world.rng);
        for file in Kept::ALL {
            let place = self.place(file);
            match disk.get(&file) {
                Some(content) => fs::write(&place, content).expect("a file can be written"),
                None => drop(fs::remove_file(&place)),
            }
        }
        // the index of the log is in shared memory: it ends with the machine
        let _ = fs::remove_file(self.world.home.path("rebilld.db-shm"));
        recording
    }
}

/// Opens disks of many moments of a life, and judges them. `most`: so many moments, and twenty times as many in the large size.
pub async fn judge(recording: &Recording, most: usize, rng: &mut ChaCha8Rng, found: &mut Found) {
    let most = if is_large() { most * 20 } else { most };
    let last = recording.steps.len();
    // a send or an event that leaves is the moment before which all has to be safe
    let leaving: Vec<usize> = (0..last).filter(|n| matches!(recording.steps[*n], Step::Charge(_) | Step::Event(_))).collect();
    for n in 0..most {
        let cut = match leaving.len() {
            1.. if n % 3 > 0 => leaving[rng.random_range(0..leaving.len())] + 1,
            _ => rng.random_range(0..=last),
        };
        found.cuts.insert(cut);
        for luck in [Luck::Nothing, Luck::Torn] {
            let looked = look_at(&recording.steps[..cut], &recording.disk(cut, luck, rng), found).await;
            assert_eq!(looked, Ok(()), "a disk after {cut} steps of {last}, of what is not durable {luck:?}");
        }
    }
    assert_eq!(look_at(&recording.steps, &recording.disk(last, Luck::All, rng), found).await, Ok(()), "all that was written");
    // were no sync worth anything, the disk would not know what had left: this finds it
    let lies = recording.disk_that_lies(last, rng);
    assert!(look_at(&recording.steps, &lies, &mut Found::default()).await.is_err(), "a drive that lies is not found out");
}

/// Several lives, each ended by a power cut, whose disk the next one goes on with.
pub async fn is_cut_again_and_again() {
    let mut recorded = Recorded::new("power cuts", 60).await;
    let (lives, mut found, mut charges) = (if is_large() { 40 } else { 3 }, Found::default(), 0);
    for _ in 0..lives {
        recorded.world.insert(15).await;
        let life = recorded.start();
        let more = recorded.world.rng.random_range(12..30);
        recorded.world.more_posts(more / 2).await;
        recorded.deed(&life, &["kill", "on", "--account", "main", "--reason", "a look"]);
        recorded.deed(&life, &["kill", "off", "--account", "main", "--reason", "it is well"]);
        recorded.world.more_posts(more - more / 2).await;
        let recording = recorded.power_cut(life);
        charges += recording.charges();
        let remembered = deeds::remembered(&recorded.world.home.path("state")).expect("it can be read").expect("a deed");
        let newest = recorded.world.home.sql("SELECT max(id) AS n FROM journal").await[0].int("n").expect("a number");
        assert_eq!(remembered.entry.id, newest, "what a command has done is remembered after the power cut");
        judge(&recording, 12, &mut recorded.world.rng, &mut found).await;
    }
    assert!(recorded.world.tail.charges() <= charges, "a charge came in that was not seen to leave");
    assert!(found.charges > 0 && found.events > 0 && found.deeds > 0, "{found}");
    println!("power cuts: {lives} lives; {found}");
    recorded.world.prove().await;
}

/// Syncs fail for a while, then work again; and then the power is cut, so that what they had lost is lost.
pub async fn goes_after_syncs_had_failed(of: Syncs) {
    let mut recorded = Recorded::new("failing syncs", 60).await;
    let mut found = Found::default();
    let rounds = if is_large() { 20 } else { 1 };
    for _ in 0..rounds {
        recorded.world.insert(30).await;
        let life = recorded.start();
        recorded.world.more_posts(8).await;
        let told = recorded.world.log().len();
        recorded.syncs_fail(of);
        recorded.world.until_logged(of.complaint(), told).await;
        let asked = recorded.world.silence().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(recorded.world.tail.charges(), asked, "nothing is sent while nothing can be made durable");
        recorded.syncs_work();
        recorded.world.more_posts(12).await;
        let recording = recorded.power_cut(life);
        let (well, failed) = recording.syncs();
        println!("failing syncs of the {of:?}: {failed} of {} failed", well + failed);
        assert!(failed > 0);
        judge(&recording, 30, &mut recorded.world.rng, &mut found).await;
    }
    println!("failing syncs of the {of:?}: {rounds} times; {found}");
    recorded.world.prove().await;
}

/// What the product makes of one disk; what is wrong with it is said.
async fn look_at(past: &[Step], disk: &Disk, found: &mut Found) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str| directory.path().join(name);
    for (file, name) in [
        (Kept::Database, "rebilld.db"),
        (Kept::Wal, "rebilld.db-wal"),
        (Kept::Mark, "rebilld.mark"),
        (Kept::Journal, "rebilld.journal"),
    ] {
        if let Some(content) = disk.get(&file) {
            fs::write(place(name), content).expect("a file can be written");
        }
    }
    let url = format!("sqlite:{}", place("rebilld.db").display());
    let options = OpenOptions { create: false, max_connections: 1, ..OpenOptions::default() };
    let database = Database::open(&url, options).await.map_err(|why| why.to_string())?;
    database.migrate().await.map_err(|why| why.to_string())?;
    let ask = async |sql: &'static str| {
        let mut tx = database.begin_write().await.map_err(|why| why.to_string())?;
        let rows = tx.query(&Statement::same("by hand", sql), &[]).await.map_err(|why| why.to_string())?;
        tx.rollback().await.map_err(|why| why.to_string())?;
        Ok::<_, String>(rows)
    };
    let said: Vec<String> =
        ask("PRAGMA integrity_check").await?.iter().map(|row| row.text("integrity_check").expect("a verdict")).collect();
    if said != ["ok"] {
        return Err(said.join("; "));
    }

    // W2 before the POST: each send that has left is in there
    let mut left = BTreeMap::<&str, i64>::new();
    let mut events = BTreeSet::<&str>::new();
    for step in past {
        match step {
            Step::Charge(uid) => *left.entry(uid).or_default() += 1,
            Step::Event(id) => drop(events.insert(id)),
            _ => {}
        }
    }
    let sends = "SELECT ids.merchant_uid AS uid, sends.id AS send FROM sends JOIN attempts ON attempts.id = sends.attempt_id \
         JOIN ids ON ids.charge_id = attempts.charge_id AND CAST(substr(ids.merchant_uid, -2) AS INTEGER) = attempts.id_number \
         WHERE sends.state != 'not_sent' ORDER BY sends.id";
    let rows: Vec<(String, i64)> =
        ask(sends).await?.iter().map(|row| (row.text("uid").expect("an id"), row.int("send").expect("an id"))).collect();
    for (uid, count) in &left {
        let there = rows.iter().filter(|(of, _)| of == uid).count() as i64;
        if there < *count {
            return Err(format!("{uid} had left {count} times, and the disk knows {there} sends of it"));
        }
    }
    // what anybody was told is in there
    let books = database.books().await.map_err(|why| why.to_string())?;
    let known: BTreeSet<&str> = books.events.iter().map(|event| event.id.as_str()).collect();
    let lost: Vec<_> = events.difference(&known).collect();
    if !lost.is_empty() {
        return Err(format!("events were told that the disk does not know: {lost:?}"));
    }
    // a mark that is ahead of the database would hold everything after each power cut
    let high: i64 = ask("SELECT high_water AS n FROM settings").await?[0].int("n").expect("a mark");
    let kept = MarkFile::peek(directory.path()).expect("it can be read");
    let mark = kept.as_ref().map_or(0, |kept| kept.mark);
    if mark > high {
        return Err(format!("the mark is {mark}, the database's {high}"));
    }
    // and one that is behind what has left would let an older copy pass for the newest
    let newest = kept.and_then(|kept| kept.newest).map_or(0, |seen| seen.send.0);
    for (uid, count) in &left {
        let ids: Vec<i64> = rows.iter().filter(|(of, _)| of == uid).map(|(_, id)| *id).collect();
        let reached = usize::try_from(*count - 1).ok().and_then(|nth| ids.get(nth));
        if reached.is_some_and(|id| *id > newest) {
            return Err(format!("{uid} had left as send {reached:?}, and the mark knows {newest} as the newest"));
        }
    }
    // so would an entry of the journal that the disk lacks
    if let Some(deed) = deeds::remembered(directory.path()).expect("it can be read") {
        if !database.knows_entry(&deed.entry).await.map_err(|why| why.to_string())? {
            return Err(format!("the state directory remembers {:?}, and the disk does not", deed.entry));
        }
        found.deeds += 1;
    }
    database.close().await;
    found.disks += 1;
    found.charges += left.values().sum::<i64>();
    found.events += events.len();
    Ok(())
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} disks of {} moments opened: none is damaged; {} charges and {} events that had left are on them, and on {} the newest thing that an operator did",
            self.disks,
            self.cuts.len(),
            self.charges,
            self.events,
            self.deeds
        )
    }
}
