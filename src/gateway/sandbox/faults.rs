//! Faults: what goes wrong between the daemon and the gateway, chosen by a script or by a seed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::call::Endpoint;

/// One thing that goes wrong with one request. Several may be given together, e.g. `Invisible` and `DropResponse`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection is closed; the request is not processed.
    DropRequest,
    /// Processed; then the connection is closed (FIN) before the first byte of an answer.
    DropResponse,
    /// Processed; then the connection is reset (RST) before the first byte of an answer.
    ResetResponse,
    /// The connection is closed at once; the request is processed when the sandbox's clock has moved by `seconds`. Until
    /// then there is no record, and the refusal of duplicates does not know of it.
    Late {
        /// By the sandbox's clock.
        seconds: u64,
    },
    /// Real time that passes before processing. Processing goes on when the client hangs up meanwhile.
    DelayBefore {
        /// Real milliseconds, not the sandbox's clock.
        millis: u64,
    },
    /// Real time that passes between processing and the answer.
    DelayAfter {
        /// Real milliseconds, not the sandbox's clock.
        millis: u64,
    },
    /// Processed, but no look-up shows the record until the sandbox's clock has moved by `seconds`. The refusal of duplicates
    /// sees it at once.
    Invisible {
        /// By the sandbox's clock.
        seconds: u64,
    },
    /// This HTTP status instead of processing. A 3xx points back at the same path.
    StatusBefore {
        /// 401, 429, 500, 502, 503 …
        status: u16,
    },
    /// Processed; then this HTTP status.
    StatusAfter {
        /// 401, 429, 500, 502, 503 …
        status: u16,
    },
    /// Processed; then HTTP 200 with a body that is no answer.
    Malformed(Malformed),
    /// Processed; the answer's content-length is right, but the connection is closed after half the body.
    Truncated,
    /// Processed; the connection is closed after that many bytes of the answer, head included.
    CutAfter {
        /// 0 closes before the first byte.
        bytes: u64,
    },
    /// Processed; then a well-formed `paid` answer about another merchant_uid and imp_uid.
    Foreign,
    /// Processed; the answer names an amount that is larger by 1 than what was charged.
    WrongAmount,
}

/// Shapes of a body that is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// A page for people.
    Html,
    /// Nothing at all.
    Empty,
    /// JSON that ends too early.
    Nonsense,
    /// JSON with the right names and the wrong types.
    WrongTypes,
    /// `{"code":0,"message":null,"response":null}`: success, of nothing.
    NullResponse,
    /// A megabyte of JSON.
    Huge,
}

impl Malformed {
    pub(super) const ALL: [Self; 6] = [Self::Html, Self::Empty, Self::Nonsense, Self::WrongTypes, Self::NullResponse, Self::Huge];
}

/// Which requests a rule is about. A field that is `None` matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// The call, e.g. `again` or `find_all`.
    pub endpoint: Option<Endpoint>,
    /// The id asked for: the merchant_uid of a charge, the id in the path of a look-up, one of the ids of a batch.
    pub id: Option<String>,
    /// How the id begins.
    pub id_prefix: Option<String>,
    /// The how-many-th request of this endpoint and id, from 1.
    pub nth: Option<u32>,
}

impl Matcher {
    /// Every charge.
    pub fn charges() -> Self {
        Self::endpoint(Endpoint::Again)
    }

    /// Every request of one endpoint.
    pub fn endpoint(endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..Self::default() }
    }

    /// Narrowed to one id.
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Narrowed to the ids that begin so.
    pub fn id_prefix(self, prefix: impl Into<String>) -> Self {
        Self { id_prefix: Some(prefix.into()), ..self }
    }

    /// Narrowed to the how-many-th request of its endpoint and id, from 1.
    pub fn nth(self, nth: u32) -> Self {
        Self { nth: Some(nth), ..self }
    }

    fn matches(&self, asked: &Asked<'_>) -> bool {
        self.endpoint.is_none_or(|endpoint| endpoint == asked.endpoint)
            && self.id.as_ref().is_none_or(|id| asked.ids.contains(id))
            && self.id_prefix.as_ref().is_none_or(|prefix| asked.ids.iter().any(|id| id.starts_with(prefix)))
            && self.nth.is_none_or(|nth| nth == asked.nth)
    }
}

/// One line of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    #[serde(default)]
    pub when: Matcher,
    /// What happens to them; nothing at all if empty, which exempts them from later rules and from the seed.
    pub faults: Vec<Fault>,
    /// How many requests it applies to before it is used up; without end if `None`.
    #[serde(default)]
    pub times: Option<u32>,
}

/// How often the seed chooses which fault, in a million requests. Kinds of one request exclude each other, except that
/// `invisible` and the delays come on top of any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// [`Fault::DropRequest`]
    pub drop_request: u32,
    /// [`Fault::DropResponse`]
    pub drop_response: u32,
    /// [`Fault::ResetResponse`]
    pub reset_response: u32,
    /// [`Fault::Late`]
    pub late: u32,
    /// [`Fault::StatusBefore`] with 401, 429, 500, 502 or 503
    pub status_before: u32,
    /// [`Fault::StatusAfter`] with 429, 500, 502 or 503
    pub status_after: u32,
    /// [`Fault::Malformed`] of any shape
    pub malformed: u32,
    /// [`Fault::Truncated`]
    pub truncated: u32,
    /// [`Fault::Foreign`]
    pub foreign: u32,
    /// [`Fault::WrongAmount`]
    pub wrong_amount: u32,
    /// [`Fault::Invisible`]
    pub invisible: u32,
    /// [`Fault::DelayBefore`] and [`Fault::DelayAfter`], each
    pub delay: u32,
    /// Longest `Late` and `Invisible`, in seconds of the sandbox's clock.
    pub max_seconds: u64,
    /// Longest delay, in real milliseconds.
    pub max_millis: u64,
}

impl Rates {
    /// A bad day: one charge in four goes wrong in some way; nothing is late or invisible by more than 20 minutes, and real
    /// delays are a few milliseconds. `foreign` and `wrong_amount` are left out, because they end in review.
    pub fn bad_day() -> Self {
        Self {
            drop_request: 40_000,
            drop_response: 60_000,
            reset_response: 20_000,
            late: 20_000,
            status_before: 30_000,
            status_after: 30_000,
            malformed: 30_000,
            truncated: 20_000,
            invisible: 50_000,
            delay: 20_000,
            max_seconds: 1_200,
            max_millis: 5,
            ..Self::default()
        }
    }

    fn kinds(&self) -> [u32; 10] {
        [
            self.drop_request,
            self.drop_response,
            self.reset_response,
            self.late,
            self.status_before,
            self.status_after,
            self.malformed,
            self.truncated,
            self.foreign,
            self.wrong_amount,
        ]
    }
}

/// Faults chosen by a seed: a pure function of (seed, endpoint, id, how-many-th request of that endpoint and id), and never of
/// the order in which requests of different ids arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeded {
    /// The same seed gives the same faults.
    pub seed: u64,
    /// For charges.
    pub charges: Rates,
    /// For everything else except the token, where `late` and `invisible` mean nothing.
    pub lookups: Rates,
}

/// Everything that goes wrong. The first rule of the script that matches a request wins; the seed has the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultPlan {
    /// Looked through in order.
    pub script: Vec<Rule>,
    /// For requests that no rule is about.
    pub seeded: Option<Seeded>,
    /// The refusal of duplicates looks first and charges so many real milliseconds later, with nothing in between: two
    /// concurrent POSTs of one merchant_uid are then both processed.
    pub check_then_act_millis: Option<u64>,
}

/// One request, as a plan sees it.
pub(super) struct Asked<'a> {
    pub endpoint: Endpoint,
    pub ids: &'a [String],
    pub nth: u32,
}

impl FaultPlan {
    /// Nothing goes wrong (any more).
    pub fn none() -> Self {
        Self::default()
    }

    /// One fault for every request that a matcher is about.
    pub fn script(rules: Vec<(Matcher, Fault)>) -> Self {
        let rule = |(when, fault)| Rule { when, faults: vec![fault], times: None };
        Self { script: rules.into_iter().map(rule).collect(), ..Self::default() }
    }

    /// Rules with several faults or with an end.
    pub fn rules(rules: Vec<Rule>) -> Self {
        Self { script: rules, ..Self::default() }
    }

    /// `rates` for charges, and a tenth of them for look-ups.
    pub fn seeded(seed: u64, rates: Rates) -> Self {
        let tenth = |rate: u32| rate / 10;
        let lookups = Rates {
            drop_request: tenth(rates.drop_request),
            drop_response: tenth(rates.drop_response),
            reset_response: tenth(rates.reset_response),
            late: 0,
            status_before: tenth(rates.status_before),
            status_after: tenth(rates.status_after),
            malformed: tenth(rates.malformed),
            truncated: tenth(rates.truncated),
            foreign: tenth(rates.foreign),
            wrong_amount: tenth(rates.wrong_amount),
            invisible: 0,
            delay: tenth(rates.delay),
            ..rates
        };
        Self { seeded: Some(Seeded { seed, charges: rates, lookups }), ..Self::default() }
    }

    /// The same plan with [`FaultPlan::check_then_act_millis`].
    pub fn check_then_act(self, millis: u64) -> Self {
        Self { check_then_act_millis: Some(millis), ..self }
    }

    /// What happens to this request. A rule with an end is used up by one.
    pub(super) fn choose(&mut self, asked: &Asked<'_>) -> Vec<Fault> {
        if let Some(rule) = self.script.iter_mut().find(|rule| rule.times != Some(0) && rule.when.matches(asked)) {
            rule.times = rule.times.map(|times| times - 1);
            return rule.faults.clone();
        }
        self.seeded.as_ref().map(|seeded| seeded.choose(asked)).unwrap_or_default()
    }
}

impl Seeded {
    fn choose(&self, asked: &Asked<'_>) -> Vec<Fault> {
        let rates = match asked.endpoint {
            Endpoint::Again => &self.charges,
            Endpoint::GetToken => return Vec::new(),
            _ => &self.lookups,
        };
        let [kind, size, extra, also] = draw(self.seed, asked.endpoint.name(), &asked.ids.join(","), asked.nth);
        let pick = |list: &[u16]| list[usize::try_from(size % list.len() as u64).unwrap_or(0)];
        let seconds = 1 + size % rates.max_seconds.max(1);
        let millis = 1 + size % rates.max_millis.max(1);
        let mut faults = Vec::new();
        let mut left = kind % 1_000_000;
        for (index, rate) in rates.kinds().into_iter().enumerate() {
            if left >= u64::from(rate) {
                left -= u64::from(rate);
                continue;
            }
            faults.push(match index {
                0 => Fault::DropRequest,
                1 => Fault::DropResponse,
                2 => Fault::ResetResponse,
                3 => Fault::Late { seconds },
                4 => Fault::StatusBefore { status: pick(&[401, 429, 500, 502, 503]) },
                5 => Fault::StatusAfter { status: pick(&[429, 500, 502, 503]) },
                6 => Fault::Malformed(Malformed::ALL[usize::try_from(size % 6).unwrap_or(0)]),
                7 => Fault::Truncated,
                8 => Fault::Foreign,
                _ => Fault::WrongAmount,
            });
            break;
        }
        if extra % 1_000_000 < u64::from(rates.invisible) {
            faults.push(Fault::Invisible { seconds });
        }
        if also % 1_000_000 < u64::from(rates.delay) {
            faults.push(Fault::DelayBefore { millis });
        } else if also % 1_000_000 < 2 * u64::from(rates.delay) {
            faults.push(Fault::DelayAfter { millis });
        }
        faults
    }
}

/// Four numbers that depend on nothing but the arguments.
pub(super) fn draw(seed: u64, kind: &str, id: &str, nth: u32) -> [u64; 4] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    for part in [kind, id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(nth.to_be_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_be_bytes(words[index]))
}
