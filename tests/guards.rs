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
use scenes::Scene;

#[expect(clippy::disallowed_methods, reason = "the size of a campaign comes from the environment")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is wrong at the end of a seed.
fn run(scene: Scene, seed: u64, out: &'static [Guard], sabotage: &'static [&'static str]) -> Vec<String> {
    guard::without(out, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("guards.db").display());
        runtime.block_on(scene.play(seed, &url, sabotage))
    })
}

/// A guard, and how it is taken out: by the product's own switch, or by a change of the simulation's database.
struct Taken {
    scene: Scene,
    out: &'static [Guard],
    sabotage: &'static [&'static str],
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
            if broken.is_empty() {
                continue;
            }
            println!("{:?} without {:?}{}: seed {seed}: {}", self.scene, self.out, self.sabotage.concat(), broken.join("; "));
            let with = run(self.scene, seed, &[], &[]);
            assert!(with.is_empty(), "{:?}, seed {seed}, with every guard in its place: {with:#?}", self.scene);
            assert!(
                broken.iter().any(|what| what.starts_with(self.breaks)),
                "{:?}, seed {seed}, breaks {broken:#?} and not {}",
                self.scene,
                self.breaks
            );
            return;
        }
        panic!("{:?}: nobody notices that {:?}{} is gone, in seeds {seeds:?}", self.scene, self.out, self.sabotage.concat());
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
const NO_INDEX: &str = "DROP INDEX attempts_one";
/// R3: one look-up that is believed is enough.
const NO_SECOND_LOOK: &str = "CREATE TRIGGER no_second_look AFTER UPDATE ON charges WHEN NEW.state = 'doubt' AND NEW.quiet_since IS NULL
    BEGIN UPDATE charges SET quiet_since = 0 WHERE id = NEW.id; END";
/// R4: a lost send goes out under a new id.
const NEW_ID: &str = "CREATE TRIGGER new_id AFTER UPDATE ON charges WHEN NEW.waiting = 'resend' AND OLD.waiting <> 'resend'
    BEGIN
        UPDATE attempts SET state = 'void' WHERE charge_id = NEW.id AND state = 'live';
        UPDATE charges SET id_number = id_number + 1 WHERE id = NEW.id;
    END";
/// R6: what is closed is never looked up again.
const NO_SWEEP: &str = "CREATE TRIGGER no_sweep AFTER UPDATE ON charges
    WHEN NEW.state IN ('unpaid', 'void') AND NEW.next_at IS NOT NULL
    BEGIN UPDATE charges SET next_at = NULL WHERE id = NEW.id; END";

taken_out! {
    without_the_index_a_second_attempt_by_hand_charges_twice: Hand, [], [NO_INDEX], seed 0 breaks "I1";
    without_the_claim_token: Replicas, [ClaimToken], [], seed 0 breaks "I";
    without_the_first_look: ApprovedLater, [FirstLook], [], seed 0 breaks "I1";
    without_q: SlowGateway, [Quiet], [], seed 0 breaks "R2";
    q_from_judging: SlowLookUp, [QuietFromBegin], [NO_SECOND_LOOK], seed 0 breaks "R2";
    without_identity: WrongPayments, [Identity], [], seed 0 breaks "I2";
    new_id_for_lost: Overdue, [], [NEW_ID], seed 0 breaks "I1";
    without_sweep: ApprovedAfterTheEnd, [], [NO_SWEEP], seed 0 breaks "I3";
    without_gate: Frozen, [Gate], [], seed 0 breaks "I1";
    without_kill: Killed, [KillSwitch], [], seed 0 breaks "I9";
    without_kill_outside: KilledOutside, [KillSwitch], [], seed 0 breaks "I9";
}
