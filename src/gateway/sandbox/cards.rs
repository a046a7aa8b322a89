//! Test cards: what a registered card does when it is charged.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::faults::draw;
use super::mix;

/// Why a card declines, with the text that KG INICIS gives for it in a real-time billing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decline {
    /// Not enough money on the account: worth another try on a later day.
    Funds,
    /// The card's limit is used up: worth another try on a later day.
    Limit,
    /// The limit of the month is used up.
    MonthlyLimit,
    /// The card has expired: the payer must give another one.
    Expired,
    /// Lost or stolen.
    Stolen,
    /// Suspended by the issuer.
    Suspended,
    /// Cancelled by its owner.
    Terminated,
    /// The issuer wants to be called by the payer.
    Contact,
    /// The issuer's line is down: certainly not charged.
    Outage,
    /// The issuer did not answer in time: whether it charged is not said by the text.
    Timeout,
    /// Taken for a repetition of another charge.
    Duplicate,
    /// The merchant's own limit is used up: no fault of the card.
    MerchantLimit,
    /// The billing key is not known to INICIS.
    NotRegistered,
    /// Any other text, word for word.
    Text(String),
}

impl Decline {
    /// What stands in `fail_reason`.
    pub fn text(&self) -> String {
        let (code, words) = match self {
            Self::Text(text) => return text.clone(),
            Self::Funds => ("1254", "잔액부족"),
            Self::Limit => ("1249", "사용한도초과"),
            Self::MonthlyLimit => ("1216", "월 사용한도 초과"),
            Self::Expired => ("1204", "유효기간 만료(기간오류)"),
            Self::Stolen => ("1226", "도난, 분실카드"),
            Self::Suspended => ("1201", "거래제한(정지)카드"),
            Self::Terminated => ("12B2", "해지카드"),
            Self::Contact => ("1270", "전화요망"),
            Self::Outage => ("1235", "카드사 통신장애"),
            Self::Timeout => ("1210", "카드사 거래 TIMEOUT"),
            Self::Duplicate => ("1236", "중복거래"),
            Self::MerchantLimit => ("1229", "가맹점한도초과"),
            Self::NotRegistered => ("1195", "빌링 미등록 거래"),
        };
        format!("[{code}][실시간빌링실패|{words}]")
    }
}

/// What a card does when it is charged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CardBehaviour {
    /// Pays every time.
    #[default]
    Good,
    /// Declines every time: a `failed` record under envelope code 0.
    Declines(Decline),
    /// Declines the first `times` charges of this customer, then pays.
    DeclinesThenPays {
        /// How many charges are declined.
        times: u32,
        /// With which text.
        decline: Decline,
    },
    /// Declines from `from` until just before `until`, by the sandbox's clock; pays before and after.
    DeclinesDuring {
        /// First declined instant.
        from: Timestamp,
        /// First instant that pays again.
        until: Timestamp,
        /// With which text.
        decline: Decline,
    },
    /// Declines `per_million` of a million charges; which ones is a pure function of (`seed`, merchant_uid, how-many-th
    /// record of this merchant_uid).
    Flaky {
        /// Declines in a million charges.
        per_million: u32,
        /// Chooses which ones.
        seed: u64,
        /// With which text.
        decline: Decline,
    },
    /// A payer as they are: `percent` of the charges are declined at first, for mixed reasons that pass with time or do not. Which
    /// ones is a pure function of (`seed`, the charge's merchant_uid without its number).
    Mixed {
        /// Of a hundred charges.
        percent: u32,
        /// Chooses which ones.
        seed: u64,
    },
    /// Every charge stays `ready`: neither paid nor failed.
    AlwaysReady,
    /// An envelope code other than 0, and no record of it.
    Refuses {
        /// The envelope's code, never 0.
        code: i64,
        /// The envelope's message.
        message: String,
    },
}

/// What one charge comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Paid,
    Ready,
    Declined(String),
    Refused { code: i64, message: String },
}

impl CardBehaviour {
    /// `declined` charges of this customer came before; `nth` is this record's number under its merchant_uid, from 1; the charge was
    /// tried at `first`, or now for the first time.
    pub(super) fn verdict(
        &self,
        now: Timestamp,
        merchant_uid: &str,
        declined: u32,
        nth: u32,
        first: Option<Timestamp>,
    ) -> Verdict {
        let when = |declines: bool, decline: &Decline| if declines { Verdict::Declined(decline.text()) } else { Verdict::Paid };
        match self {
            Self::Good => Verdict::Paid,
            Self::Declines(decline) => when(true, decline),
            Self::DeclinesThenPays { times, decline } => when(declined < *times, decline),
            Self::DeclinesDuring { from, until, decline } => when((*from..*until).contains(&now), decline),
            Self::Flaky { per_million, seed, decline } => {
                when(draw(*seed, "card", merchant_uid, nth)[0] % 1_000_000 < u64::from(*per_million), decline)
            }
            Self::Mixed { percent, seed } => {
                let decline = mix::declined(*percent, *seed, charge_of(merchant_uid), first.unwrap_or(now), now);
                decline.map_or(Verdict::Paid, |decline| Verdict::Declined(decline.text()))
            }
            Self::AlwaysReady => Verdict::Ready,
            Self::Refuses { code, message } => Verdict::Refused { code: *code, message: message.clone() },
        }
    }

    /// What the card number given to `POST /subscribe/customers/{uid}` stands for. `4000-0000-0000-` and an INICIS code of
    /// four digits declines with that code, `…-0001` declines two times and then pays, `…-0002` stays `ready`, `…-0003` is
    /// flaky; every other number pays.
    pub(super) fn of_card_number(digits: &str) -> Self {
        let Some(last) = digits.strip_prefix("400000000000") else { return Self::Good };
        let prefix = match last {
            "0001" => "twice-",
            "0002" => "ready-",
            "0003" => "flaky-",
            _ => {
                let known = [
                    Decline::Funds,
                    Decline::Limit,
                    Decline::MonthlyLimit,
                    Decline::Expired,
                    Decline::Stolen,
                    Decline::Suspended,
                    Decline::Contact,
                    Decline::Outage,
                    Decline::Timeout,
                    Decline::Duplicate,
                    Decline::MerchantLimit,
                    Decline::NotRegistered,
                ];
                let start = format!("[{last}]");
                return known.into_iter().find(|decline| decline.text().starts_with(&start)).map_or(Self::Good, Self::Declines);
            }
        };
        Self::of_prefix(prefix).unwrap_or_default()
    }

    /// What a customer_uid stands for by its first word, where the operator tries the daemon with plain text:
    /// `good-`, `insufficient-`, `limit-`, `expired-`, `stolen-`, `suspended-`, `contact-`, `outage-`, `timeout-`,
    /// `merchant-`, `twice-` (two declines, then paid), `flaky-` (three in ten decline), `ready-`, `mixed-PERCENT-SEED-`. `None` for `unknown-` and
    /// everything else: nobody of that name is registered.
    pub fn of_prefix(customer_uid: &str) -> Option<Self> {
        let declines = |decline| Some(Self::Declines(decline));
        let (word, rest) = customer_uid.split_once('-')?;
        match word {
            "good" => Some(Self::Good),
            "insufficient" => declines(Decline::Funds),
            "limit" => declines(Decline::Limit),
            "expired" => declines(Decline::Expired),
            "stolen" => declines(Decline::Stolen),
            "suspended" => declines(Decline::Suspended),
            "contact" => declines(Decline::Contact),
            "outage" => declines(Decline::Outage),
            "timeout" => declines(Decline::Timeout),
            "merchant" => declines(Decline::MerchantLimit),
            "twice" => Some(Self::DeclinesThenPays { times: 2, decline: Decline::Funds }),
            "flaky" => Some(Self::Flaky { per_million: 300_000, seed: 0, decline: Decline::Funds }),
            "ready" => Some(Self::AlwaysReady),
            "mixed" => {
                let mut numbers = rest.split('-');
                let (percent, seed) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
                Some(Self::Mixed { percent, seed })
            }
            _ => None,
        }
    }
}

/// What is the same for all tries of a charge: its merchant_uid without the number at the end.
pub(super) fn charge_of(merchant_uid: &str) -> &str {
    merchant_uid.get(..merchant_uid.len().saturating_sub(2)).unwrap_or(merchant_uid)
}
