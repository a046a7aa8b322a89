//! Which faults a seed switches on, and which of them hits a given call: a pure function of seed, id and number.

use jiff::Timestamp;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rebilld::domain::attempt::digest;

use crate::operations::Operations;

/// What happens to one POST, beyond what the card says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// Never arrives.
    LostBefore,
    /// Is processed; the answer is lost.
    LostAfter,
    /// The connection is refused.
    Unreachable,
    /// The caller hangs up; it is processed up to 15 minutes later.
    Late,
    /// No look-up shows it for up to 10 minutes.
    Invisible,
    /// It is processed twice, the second time minutes later.
    Duplicate,
    /// The answer takes up to a minute.
    Slow,
    /// The answer takes longer than the caller waits.
    TooSlow,
    /// 429, 500, 502 or 503, before or after it is processed.
    OverloadBefore,
    OverloadAfter,
    /// Another status, after it is processed.
    OddStatus,
    Unauthorized,
    Malformed,
    CutOff,
    TooLarge,
    Foreign,
    /// The answer says another amount, currency, card, or the payment of another attempt.
    WrongAmount,
    WrongCurrency,
    WrongCustomer,
    WrongImpUid,
    /// The gateway leaves it `ready` for a while, or for good.
    Ready,
    /// Paid, and cancelled at once.
    Cancelled,
    /// Paid, and the answer has a word for it that nobody knows.
    OddWord,
    /// code 1, and nothing becomes of it: the text is about the card, about money, about nothing that is known, or the merchant's own.
    CodeCard,
    CodeFunds,
    CodeOdd,
    CodeMerchant,
    /// code 1, and it is paid, or a failed record is filed.
    CodeAndPaid,
    CodeAndFailed,
    /// A failure with an ambiguous text, which is approved minutes later under a record of its own.
    FailedThenPaid,
}

pub const FAULTS: [Fault; 30] = [
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::Unreachable,
    Fault::Late,
    Fault::Invisible,
    Fault::Duplicate,
    Fault::Slow,
    Fault::TooSlow,
    Fault::OverloadBefore,
    Fault::OverloadAfter,
    Fault::OddStatus,
    Fault::Unauthorized,
    Fault::Malformed,
    Fault::CutOff,
    Fault::TooLarge,
    Fault::Foreign,
    Fault::WrongAmount,
    Fault::WrongCurrency,
    Fault::WrongCustomer,
    Fault::WrongImpUid,
    Fault::Ready,
    Fault::Cancelled,
    Fault::OddWord,
    Fault::CodeCard,
    Fault::CodeFunds,
    Fault::CodeOdd,
    Fault::CodeMerchant,
    Fault::CodeAndPaid,
    Fault::CodeAndFailed,
    Fault::FailedThenPaid,
];

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "POST: no fault",
            Self::LostBefore => "POST: lost before",
            Self::LostAfter => "POST: lost after",
            Self::Unreachable => "POST: unreachable",
            Self::Late => "POST: late",
            Self::Invisible => "POST: invisible at first",
            Self::Duplicate => "POST: processed twice",
            Self::Slow => "POST: slow",
            Self::TooSlow => "POST: too slow",
            Self::OverloadBefore => "POST: 429 or 5xx before",
            Self::OverloadAfter => "POST: 429 or 5xx after",
            Self::OddStatus => "POST: another status",
            Self::Unauthorized => "POST: 401",
            Self::Malformed => "POST: malformed",
            Self::CutOff => "POST: cut off",
            Self::TooLarge => "POST: too large",
            Self::Foreign => "POST: foreign",
            Self::WrongAmount => "POST: wrong amount",
            Self::WrongCurrency => "POST: wrong currency",
            Self::WrongCustomer => "POST: wrong card",
            Self::WrongImpUid => "POST: another attempt's payment",
            Self::Ready => "POST: ready",
            Self::Cancelled => "POST: cancelled",
            Self::OddWord => "POST: unknown status",
            Self::CodeCard => "POST: code about the card",
            Self::CodeFunds => "POST: code about money",
            Self::CodeOdd => "POST: code about nothing known",
            Self::CodeMerchant => "POST: code about the merchant",
            Self::CodeAndPaid => "POST: code, and paid",
            Self::CodeAndFailed => "POST: code, and a failed record",
            Self::FailedThenPaid => "POST: failed, then paid",
        }
    }
}

/// In minutes.
pub const DAY: i64 = 24 * 60;

/// What operators do while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// The whole book is imported again.
    ImportAgain,
    /// A row comes with an amount that is ten times too high, and is put right days later.
    WrongAmount,
    /// The kill switch is on for some hours.
    Kill,
    /// Prices of the config change.
    Prices,
    /// A subscription moves to another plan of the same days.
    Plan,
    /// A payer brings another card.
    Card,
    /// A subscription is paused for days.
    Pause,
    Cancel,
    /// Rulings and retries on what is open.
    Rule,
}

pub const ACTS: [Act; 9] =
    [Act::ImportAgain, Act::WrongAmount, Act::Kill, Act::Prices, Act::Plan, Act::Card, Act::Pause, Act::Cancel, Act::Rule];

/// A book, and the faults that its seed plays with: a random subset, so that rare combinations are not drowned by common ones.
/// Everything that is not given here is drawn from the seed; the default has no fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swarm {
    pub seed: u64,
    pub subscriptions: u64,
    pub days: i64,
    pub replicas: u64,
    pub kinds: Vec<Fault>,
    /// Of a thousand charges, those whose POSTs have faults.
    pub rate: u32,
    /// Of a hundred subscriptions, those whose card declines.
    pub declining: u32,
    /// Of a thousand look-ups that fail.
    pub look_up_rate: u32,
    /// Of a thousand declined requests, those that are approved 8 to 20 days later, if the charge was not asked for again: by then it is closed.
    pub late_approvals: u32,
    /// The look-up is down from that hour on, for so many, every sixty days.
    pub look_up_down: Option<(i64, i64)>,
    /// Everything is answered with 429 or 5xx from that hour on, for so many minutes, every ten days.
    pub storm: Option<(i64, i64)>,
    /// Port calls between crashes, on average.
    pub crashes: Option<u32>,
    /// Of a thousand commits that are not made, and whose acknowledgement is lost.
    pub lost_commits: u32,
    pub lost_acknowledgements: u32,
    /// Of a thousand watermark writes that fail.
    pub full_disk: u32,
    /// Of a hundred port calls that take up to 150 ms.
    pub slow: u32,
    /// Of ten thousand port calls in which the process freezes, for so many seconds at most.
    pub stalls: u32,
    pub stall_seconds: i64,
    /// Hours at which the database's clock jumps, and by how many seconds.
    pub jumps: Vec<(i64, i64)>,
    /// Minutes into the run at which a copy is made, and how many minutes later it comes back.
    pub restores: Vec<(i64, i64)>,
    /// From September on instead of January: clocks are set back, not forward.
    pub autumn: bool,
    pub acts: Vec<Act>,
    /// Which single ones of all these befall it.
    pub operations: Operations,
}

pub fn rng(seed: u64, parts: &[&str]) -> ChaCha8Rng {
    let text = seed.to_string();
    let mut all = vec![text.as_str()];
    all.extend_from_slice(parts);
    ChaCha8Rng::from_seed(digest(&all))
}

impl Swarm {
    pub fn of(seed: u64) -> Self {
        // each from a source of its own, so that a new one changes none of the others
        let pick = |what: &str, of: &[u32]| of[rng(seed, &["swarm", what]).random_range(0..of.len())];
        let mut rng = rng(seed, &["swarm"]);
        let mut half = |_: &Fault| rng.random_bool(0.5);
        let kinds: Vec<Fault> = FAULTS.into_iter().filter(&mut half).collect();
        let hour = |what: &str, below: i64| i64::from(pick(what, &(0..1000).collect::<Vec<_>>())) % below;
        // half of the copies are made in the middle of a wave: most is due at 10:00 in Seoul, which is an hour after midnight here
        let minute = |what: &str| if pick(what, &[0, 1]) == 0 { 60 + hour(what, 3) } else { hour(what, DAY) };
        let copy = |what: &str, from: i64, days: i64, back: &str, most: i64| {
            (
                DAY * (from + hour(what, days)) + minute(&format!("{what}, minute")),
                DAY * (1 + hour(back, most)) + minute(&format!("{back}, minute")),
            )
        };
        let restores = match pick("restores", &[0, 0, 0, 1, 2]) {
            0 => vec![],
            1 => vec![copy("restore", 3, 22, "back", 12)],
            _ => vec![copy("restore", 3, 20, "back", 6), copy("again", 32, 9, "back again", 9)],
        };
        // a copy that has forgotten a payment cannot know that an answer names it
        let kinds = kinds.into_iter().filter(|kind| restores.is_empty() || *kind != Fault::WrongImpUid).collect();
        let acts = ACTS.into_iter().filter(|_| half(&Fault::None)).collect();
        let days = i64::from(pick("days", &[60, 90, 180, 270]));
        let stalls = pick("stalls", &[0, 0, 4, 20]);
        let jumps = match pick("jumps", &[0, 0, 0, 1, 2, 3, 4]) {
            0 => vec![],
            // one is put right hours later, the other stays
            1 => vec![(hour("jump", 1000), 3600), (hour("jump", 1000) + 7, -3600)],
            2 => vec![(hour("jump", 1000), 3600)],
            3 => vec![(hour("jump", 1000), 86_400), (hour("jump", 1000) + 11, -86_400)],
            _ => vec![(hour("jump", 1000), -3600)],
        };
        let subscriptions = u64::from(pick("subscriptions", &[10, 60, 150, 1000]));
        // in a large book as many faults as in a smaller one, among waves that one batch cannot take
        let rate = pick("rate", &[30, 100, 150, 250]) / if subscriptions > 500 { 4 } else { 1 };
        Self {
            seed,
            subscriptions,
            days,
            replicas: u64::from(pick("replicas", &[1, 1, 1, 1, 2, 2, 3, 5])),
            kinds,
            rate,
            declining: pick("declining", &[2, 6, 15]),
            look_up_rate: pick("look-up rate", &[0, 0, 20, 100]),
            late_approvals: pick("late approvals", &[0, 0, 100]),
            look_up_down: (pick("look-up down", &[0, 0, 0, 1]) == 1).then(|| (hour("down", 24 * 60), 1 + hour("down for", 60))),
            storm: (pick("storm", &[0, 0, 1]) == 1).then(|| (hour("storm", 24 * 10), 1 + hour("storm for", 300))),
            crashes: Some(pick("crashes", &[0, 0, 10_000, 3000, 2000])).filter(|mean| *mean > 0),
            lost_commits: pick("lost commits", &[0, 0, 20]),
            lost_acknowledgements: pick("lost acknowledgements", &[0, 0, 20]),
            full_disk: pick("full disk", &[0, 0, 20]),
            slow: pick("slow", &[0, 10, 30]),
            stalls,
            // with a delay of 15 minutes and a lag of 10 it stays below Q
            stall_seconds: [60, 200, 1800][pick("stall", &[0, 1, 2]) as usize],
            jumps,
            restores,
            autumn: pick("season", &[0, 0, 1]) == 1,
            acts,
            operations: Operations::All,
        }
    }

    /// When it begins.
    pub fn start(&self) -> Timestamp {
        if self.autumn { "2026-09-05T00:00:00Z" } else { "2026-01-05T00:00:00Z" }.parse().unwrap()
    }

    /// Subscriptions times months.
    pub fn months(&self) -> u64 {
        self.subscriptions * self.days as u64 / 30
    }

    /// What happens to the `nth_post` POST of an id. A quarter of the charges that have faults have the same one every time.
    pub fn fault(&self, merchant_uid: &str, nth_post: usize) -> Fault {
        if self.kinds.is_empty() || self.rate == 0 {
            return Fault::None;
        }
        let base = merchant_uid.get(..28).unwrap_or(merchant_uid);
        let mut of_charge = rng(self.seed, &["charge", base]);
        if of_charge.random_range(0..1000) >= self.rate {
            return Fault::None;
        }
        let always = of_charge.random_bool(0.25).then(|| of_charge.random_range(0..FAULTS.len()));
        let mut of_post = rng(self.seed, &["post", merchant_uid, &nth_post.to_string()]);
        let nth = always.unwrap_or_else(|| of_post.random_range(0..FAULTS.len()));
        // switched off: so the others hit the same calls as before
        let kind = if self.kinds.contains(&FAULTS[nth]) { FAULTS[nth] } else { self.kinds[nth % self.kinds.len()] };
        // what is sent again at once would be sent again for ever
        let again = matches!(kind, Fault::Unreachable | Fault::Unauthorized);
        if (always.is_none() || again) && nth_post > 1 && of_post.random_bool(0.5) { Fault::None } else { kind }
    }

    /// A number between the two, for a fault of this POST.
    pub fn measure(&self, merchant_uid: &str, nth: usize, what: &str, from: i64, to: i64) -> i64 {
        rng(self.seed, &["measure", what, merchant_uid, &nth.to_string()]).random_range(from..to)
    }
}
