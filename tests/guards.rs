//! Mutations of safety: each guard of the charge protocol is taken out, one at a time, and the simulation has to notice. With the
//! guard in its place the same seeds pass.
//!
//! Every guard has a scene (tests/guards/scenes.rs): the mishaps that it is there for, drawn by a seed. Small runs take the seeds that
//! are known to notice; `REBILLD_GUARD_SEEDS=1000` searches that many for each guard, from the first, and prints what it finds.
#![cfg(debug_assertions)]

mod guards {
    pub mod portone;
    pub mod scenes;
    pub mod world;
}

pub use guards::{portone, scenes, world};

use rebilld::ports::guard::{self, Guard};
use scenes::{Sabotage, Scene};

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is wrong at the end of a seed.
fn run(scene: Scene, seed: u64, out: &'static [Guard], sabotage: &'static [Sabotage]) -> Vec<String> {
    guard::without(out, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // nothing here is about power cuts: a database in memory is as good, and quicker
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let url = format!("sqlite:{}", directory.path().join("guards.db").display());
        runtime.block_on(scene.play(seed, &url, sabotage))
    })
}

/// A guard, and how it is taken out: by the product's own switch, or by a change of the simulation's database.
struct Taken {
    scene: Scene,
    out: &'static [Guard],
    sabotage: &'static [Sabotage],
    /// A seed that is known to notice, and what is said of it.
    known: u64,
    breaks: &'static str,
}

impl Taken {
    /// Fails unless a seed notices, and unless the same seed passes with the guard in its place.
    fn has_to_be_noticed(&self) {
        let most = setting("REBILLD_GUARD_SEEDS");
        let seeds = most.map_or(self.known..self.known + 1, |most| 0..most);
        for seed in seeds.clone() {
            let broken = run(self.scene, seed, self.out, self.sabotage);
            let Some(first) = broken.iter().find(|what| what.split_whitespace().next() == Some(self.breaks)) else { continue };
            println!("    {:?} without {}: seed {seed}: {first} ({} things are wrong)", self.scene, self.taken(), broken.len());
            let with = run(self.scene, seed, &[], &[]);
            assert!(with.is_empty(), "{:?}, seed {seed}, with the guard in its place: {with:#?}", self.scene);
            return;
        }
        panic!("{:?}: nobody notices that {} is gone, in seeds {seeds:?}", self.scene, self.taken());
    }

    /// What is gone, for people.
    fn taken(&self) -> String {
        let switched = self.out.iter().map(|guard| format!("{guard:?}"));
        let sabotaged = self.sabotage.iter().map(|one| match one {
            // `CREATE TRIGGER name` and `DROP INDEX name`
            Sabotage::Sql(sql) => sql.split_whitespace().nth(2).unwrap_or_default().to_owned(),
            other => format!("{other:?}"),
        });
        switched.chain(sabotaged).collect::<Vec<_>>().join(" and ")
    }
}

macro_rules! taken_out {
    ($($name:ident: $scene:ident, [$($guard:ident),*], [$($sabotage:expr),*], seed $known:literal breaks $breaks:literal;)*) => {$(
        #[test]
        fn $name() {
            let (out, sabotage) = (&[$(Guard::$guard),*], &[$($sabotage),*]);
            Taken { scene: Scene::$scene, out, sabotage, known: $known, breaks: $breaks }.has_to_be_noticed();
        }
    )*};
}

/// THE index.
const NO_INDEX: Sabotage = Sabotage::Sql("DROP INDEX attempts_one");
/// R3: one look-up that is believed is enough.
const NO_SECOND_LOOK: Sabotage = Sabotage::Sql(
    "CREATE TRIGGER no_second_look AFTER UPDATE ON charges WHEN NEW.state = 'doubt' AND NEW.quiet_since IS NULL
    BEGIN UPDATE charges SET quiet_since = 0 WHERE id = NEW.id; END",
);
/// R4: a lost send goes out under a new id.
const NEW_ID: Sabotage = Sabotage::Sql(
    "CREATE TRIGGER new_id AFTER UPDATE ON charges WHEN NEW.waiting = 'resend' AND OLD.waiting <> 'resend'
    BEGIN
        UPDATE attempts SET state = 'void' WHERE charge_id = NEW.id AND state = 'live';
        UPDATE charges SET id_number = id_number + 1 WHERE id = NEW.id;
    END",
);
/// R6: what is closed is never looked up again.
const NO_SWEEP: Sabotage = Sabotage::Sql(
    "CREATE TRIGGER no_sweep AFTER UPDATE ON charges
    WHEN NEW.state IN ('unpaid', 'void') AND NEW.next_at IS NOT NULL
    BEGIN UPDATE charges SET next_at = NULL WHERE id = NEW.id; END",
);

taken_out! {
    the_index_keeps_a_hand_from_a_second_attempt: Hand, [], [NO_INDEX], seed 29 breaks "I1";
    the_claim_token_keeps_a_stale_worker_from_concluding: TakenOver, [ClaimToken], [], seed 0 breaks "I8";
    the_look_up_before_a_send_finds_what_was_approved_later: ApprovedLater, [FirstLook], [], seed 5 breaks "I1";
    q_outlasts_a_slow_gateway: SlowGateway, [], [Sabotage::NoQuiet], seed 4 breaks "R2";
    q_counts_from_where_a_look_up_began: SlowLookUp, [QuietFromBegin], [NO_SECOND_LOOK], seed 10 breaks "R2";
    q_counts_from_where_a_look_up_began_though_r3_stands: EarlyQuestion, [QuietFromBegin], [], seed 3 breaks "R2";
    a_payment_is_ours_by_id_amount_and_card: WrongPayments, [Identity], [], seed 0 breaks "I2";
    a_lost_send_keeps_its_id: Overdue, [], [NEW_ID], seed 5 breaks "I1";
    a_closed_charge_is_swept: ApprovedAfterTheEnd, [], [NO_SWEEP], seed 0 breaks "I3";
    the_gate_turns_away_who_was_frozen: Frozen, [Gate], [], seed 4 breaks "I1";
    the_fuse_bounds_an_hour: Wave, [], [Sabotage::NoFuse], seed 0 breaks "fuse:";
    the_kill_switch_stops_what_is_committed: Killed, [KillSwitch], [], seed 0 breaks "I9";
    the_kill_switch_outside_stops_it_too: KilledOutside, [KillSwitch], [], seed 0 breaks "I9";
}
