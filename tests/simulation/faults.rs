//! Which faults a seed switches on, and which of them hits a given call: a pure function of seed, id and number.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rebilld::domain::attempt::digest;

/// What happens to one POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// Never arrives.
    LostBefore,
    /// Is processed; the answer is lost.
    LostAfter,
    /// The connection is refused.
    Unreachable,
    /// The caller hangs up; it is processed so many seconds later.
    Late(i64),
    /// No look-up shows it for so many seconds.
    Invisible(i64),
    /// 500 before or after processing.
    ErrorBefore,
    ErrorAfter,
    Unauthorized,
    Malformed,
    CutOff,
    Foreign,
    WrongAmount,
}

/// The faults that this seed plays with: a random subset, so that rare combinations are not drowned by common ones.
#[derive(Debug, Clone)]
pub struct Swarm {
    pub seed: u64,
    pub kinds: Vec<Fault>,
    /// Of a thousand POSTs.
    pub rate: u32,
    /// Of a thousand look-ups that fail.
    pub look_up_rate: u32,
    /// The look-up is down for so many hours at a stretch, once.
    pub look_up_down: Option<(i64, i64)>,
    /// Port calls between crashes, on average; none: no crash.
    pub crashes: Option<u32>,
    /// Of a thousand commits whose acknowledgement is lost.
    pub lost_acknowledgements: u32,
    /// Of a thousand watermark writes that fail.
    pub full_disk: u32,
}

pub fn rng(seed: u64, parts: &[&str]) -> ChaCha8Rng {
    let text = seed.to_string();
    let mut all = vec![text.as_str()];
    all.extend_from_slice(parts);
    ChaCha8Rng::from_seed(digest(&all))
}

impl Swarm {
    pub fn of(seed: u64) -> Self {
        let mut rng = rng(seed, &["swarm"]);
        let on = |rng: &mut ChaCha8Rng| rng.random_bool(0.5);
        let wrong_payments = rng.random_bool(0.1);
        let mut kinds = Vec::new();
        for kind in [
            Fault::LostBefore,
            Fault::LostAfter,
            Fault::Unreachable,
            Fault::Late(0),
            Fault::Invisible(0),
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::Unauthorized,
            Fault::Malformed,
            Fault::CutOff,
            Fault::Foreign,
        ] {
            if on(&mut rng) {
                kinds.push(kind);
            }
        }
        if wrong_payments {
            kinds.push(Fault::WrongAmount);
        }
        let look_up_down = rng.random_bool(0.3).then(|| {
            let from = rng.random_range(0..24 * 60);
            (from, rng.random_range(1..40))
        });
        Self {
            seed,
            kinds,
            rate: [0, 50, 200, 500][rng.random_range(0..4)],
            look_up_rate: [0, 0, 50, 300][rng.random_range(0..4)],
            look_up_down,
            crashes: [None, Some(400), Some(100), Some(30)][rng.random_range(0..4)],
            lost_acknowledgements: [0, 0, 20][rng.random_range(0..3)],
            full_disk: [0, 0, 20][rng.random_range(0..3)],
        }
    }

    /// What happens to the `nth` POST of an id.
    pub fn fault(&self, merchant_uid: &str, nth: usize) -> Fault {
        let mut rng = rng(self.seed, &["post", merchant_uid, &nth.to_string()]);
        if self.kinds.is_empty() || rng.random_range(0..1000) >= self.rate {
            return Fault::None;
        }
        match self.kinds[rng.random_range(0..self.kinds.len())] {
            // the protocol's bounds: delays to 15 minutes, visibility lag to 10, together below Q
            Fault::Late(_) => Fault::Late(rng.random_range(1..15 * 60)),
            Fault::Invisible(_) => Fault::Invisible(rng.random_range(1..10 * 60)),
            kind => kind,
        }
    }
}
