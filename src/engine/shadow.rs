//! Shadow mode: what would have been charged on a day, beside what the gateway shows of it. Another system charges; nothing here
//! sends, opens or commits anything.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::InForce;
use super::outlook::{Kind, outlook};
use crate::domain::charge::SubscriptionId;
use crate::domain::money::Money;
use crate::domain::outcome::{Record, RecordStatus};
use crate::ports::store::Standing;

/// A charge that would have been made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub subscription: SubscriptionId,
    pub external_ref: String,
    pub plan: String,
    /// Empty until it is read from the subscription's row.
    pub customer_uid: String,
    /// When it would have been asked for.
    pub at: Timestamp,
    pub amount: Money,
}

/// How what would have been compares with what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Charged there on the same day, the same amount.
    Match,
    /// Asked for there on the same day, and declined.
    Declined,
    /// Charged there on the same day, with another amount.
    OtherAmount,
    /// It would have been charged from here, and was not there.
    Missing,
    /// Charged there, and it would not have been from here.
    Extra,
}

impl Verdict {
    pub const ALL: [Self; 5] = [Self::Match, Self::Declined, Self::OtherAmount, Self::Missing, Self::Extra];

    pub fn name(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Declined => "declined",
            Self::OtherAmount => "other_amount",
            Self::Missing => "missing",
            Self::Extra => "extra",
        }
    }

    /// Whether both would have taken the same money from the same card on the same day.
    pub fn agrees(self) -> bool {
        matches!(self, Self::Match | Self::Declined)
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub day: Date,
    pub verdict: Verdict,
    pub customer_uid: String,
    pub expected: Option<Expected>,
    /// What the gateway shows; of a charge that was declined there, its amount as well.
    pub charged: Option<Record>,
}

/// What would have been charged to a subscription in `[from, to)`, if it had been served from here all the time and every charge had been
/// paid at the first go. A row that was written later counts as known at `from`.
pub fn expected(standing: &Standing, in_force: &InForce, (from, to): (Timestamp, Timestamp)) -> Vec<Expected> {
    let since = standing.schedule.known_since.min(from);
    let mut standing = standing.clone();
    standing.schedule.known_since = since;
    // what has opened here is counted by its own row, and what its card has been through is not the old system's
    standing.pending.clear();
    standing.key_tries.clear();
    let terms = &standing.schedule.terms;
    let ahead = outlook(&standing, in_force, since, to);
    let coming = ahead.charges.into_iter().filter(|coming| coming.kind == Kind::Period && coming.at >= from);
    let one = |coming: super::outlook::Coming| Expected {
        subscription: terms.id,
        external_ref: terms.external_ref.clone(),
        plan: terms.plan.clone(),
        customer_uid: String::new(),
        at: coming.at,
        amount: coming.amount,
    };
    coming.map(one).collect()
}

/// Compares days of one account with the gateway's list, card by card. `days` are local ones of `zone`. Payments without a billing key
/// are none of its business. In order of day, verdict and card.
pub fn compare(expected: Vec<Expected>, records: Vec<Record>, days: (Date, Date), zone: &TimeZone) -> Vec<Line> {
    let day_of = |at: Timestamp| at.to_zoned(zone.clone()).date();
    let mut shown: HashMap<String, Vec<Record>> = HashMap::new();
    for record in records.into_iter().filter(|record| !matches!(record.status, RecordStatus::Ready | RecordStatus::Unknown(_))) {
        if let Some(customer_uid) = record.customer_uid.clone() {
            shown.entry(customer_uid).or_default().push(record);
        }
    }
    let mut wanted: BTreeMap<(Date, String), Vec<Expected>> = BTreeMap::new();
    for one in expected {
        wanted.entry((day_of(one.at), one.customer_uid.clone())).or_default().push(one);
    }
    // one that was given back tells only when that was: it fits any day
    let fits =
        |record: &Record, day: Date| record.status == RecordStatus::Cancelled || record.at.is_some_and(|at| day_of(at) == day);
    let mut lines = Vec::new();
    for ((day, customer_uid), of_card) in wanted {
        let mut records = shown.remove(&customer_uid).unwrap_or_default();
        let mut take = |wants: &dyn Fn(&Record) -> bool| {
            records.iter().position(|record| fits(record, day) && wants(record)).map(|at| records.swap_remove(at))
        };
        let paid = |record: &Record| record.status != RecordStatus::Failed;
        // the right amounts first, so that two subscriptions of one card do not take each other's
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for one in of_card {
            match take(&|record| paid(record) && record.amount == Some(one.amount)) {
                Some(record) => found.push((one, Verdict::Match, Some(record))),
                None => left.push(one),
            }
        }
        for one in left {
            let other = take(&|record| paid(record)).map(|record| (Verdict::OtherAmount, record));
            let other = other.or_else(|| take(&|record| !paid(record)).map(|record| (Verdict::Declined, record)));
            found.push(match other {
                Some((verdict, record)) => (one, verdict, Some(record)),
                None => (one, Verdict::Missing, None),
            });
        }
        lines.extend(found.into_iter().map(|(one, verdict, charged)| Line {
            day,
            verdict,
            customer_uid: customer_uid.clone(),
            expected: Some(one),
            charged,
        }));
        shown.insert(customer_uid, records);
    }
    for (customer_uid, records) in shown {
        for record in records.into_iter().filter(|record| record.status != RecordStatus::Failed) {
            let day = record.at.map_or(days.0, day_of);
            // what was given back much later, or stands just outside the days
            let day = if (days.0..days.1).contains(&day) { day } else { days.0 };
            let (verdict, customer_uid) = (Verdict::Extra, customer_uid.clone());
            lines.push(Line { day, verdict, customer_uid, expected: None, charged: Some(record) });
        }
    }
    lines.sort_by(|a, b| (a.day, a.verdict, &a.customer_uid).cmp(&(b.day, b.verdict, &b.customer_uid)));
    lines
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn want(customer_uid: &str, won: i64, when: &str) -> Expected {
        Expected {
            subscription: SubscriptionId(1),
            external_ref: format!("sub-{customer_uid}"),
            plan: "monthly".to_owned(),
            customer_uid: customer_uid.to_owned(),
            at: at(when),
            amount: Money::krw(won),
        }
    }

    fn record(customer_uid: &str, won: i64, status: RecordStatus, when: &str) -> Record {
        Record {
            imp_uid: format!("imp_{customer_uid}_{won}"),
            merchant_uid: "theirs".to_owned(),
            status,
            amount: Some(Money::krw(won)),
            customer_uid: Some(customer_uid.to_owned()).filter(|uid| !uid.is_empty()),
            fail_reason: None,
            pg_provider: None,
            pg_tid: None,
            at: Some(at(when)),
            cancelled_amount: 0,
        }
    }

    fn verdicts(expected: Vec<Expected>, records: Vec<Record>) -> Vec<(String, &'static str, String)> {
        let zone = TimeZone::get("Asia/Seoul").unwrap();
        let lines = compare(expected, records, (date(2026, 12, 1), date(2026, 12, 3)), &zone);
        lines.into_iter().map(|line| (line.day.to_string(), line.verdict.name(), line.customer_uid)).collect()
    }

    fn line(day: &str, verdict: &'static str, card: &str) -> (String, &'static str, String) {
        (day.to_owned(), verdict, card.to_owned())
    }

    #[test]
    fn a_card_is_charged_the_same_on_the_same_local_day_or_it_is_told() {
        use RecordStatus::{Failed, Paid, Ready};
        // 23:30 in Seoul is still the first of December
        let (morning, night, next) = ("2026-12-01T01:00:00Z", "2026-12-01T14:30:00Z", "2026-12-01T15:30:00Z");
        let expected = ["a", "b", "c", "d", "e"].map(|card| want(card, 9_900, morning)).to_vec();
        let records = vec![
            record("a", 9_900, Paid, night),
            record("b", 12_900, Paid, morning),
            record("c", 9_900, Failed, morning),
            record("d", 9_900, Paid, next),
            record("f", 5_000, Paid, morning),
            record("g", 5_000, Failed, morning),
            record("e", 9_900, Ready, morning),
            record("", 9_900, Paid, morning),
        ];
        let expected_lines = [
            line("2026-12-01", "match", "a"),
            line("2026-12-01", "declined", "c"),
            line("2026-12-01", "other_amount", "b"),
            line("2026-12-01", "missing", "d"),
            line("2026-12-01", "missing", "e"),
            line("2026-12-01", "extra", "f"),
            line("2026-12-02", "extra", "d"),
        ];
        assert_eq!(verdicts(expected, records), expected_lines);
    }

    #[test]
    fn two_subscriptions_of_one_card_find_their_own_payments() {
        let morning = "2026-12-01T01:00:00Z";
        let expected = vec![want("a", 9_900, morning), want("a", 5_000, morning), want("a", 7_000, morning)];
        let paid = |won| record("a", won, RecordStatus::Paid, morning);
        let lines = verdicts(expected.clone(), vec![paid(5_000), paid(9_900), paid(7_000)]);
        assert!(lines.iter().all(|(_, verdict, _)| *verdict == "match"), "{lines:?}");
        let lines = verdicts(expected, vec![paid(5_000), paid(9_900), paid(9_900)]);
        let of = |verdict| lines.iter().filter(|(_, one, _)| *one == verdict).count();
        assert_eq!((of("match"), of("other_amount"), lines.len()), (2, 1, 3), "{lines:?}");
    }

    #[test]
    fn what_was_given_back_later_was_charged_all_the_same() {
        let back = record("a", 9_900, RecordStatus::Cancelled, "2026-12-20T01:00:00Z");
        let lines = verdicts(vec![want("a", 9_900, "2026-12-02T01:00:00Z")], vec![back.clone()]);
        assert_eq!(lines, [line("2026-12-02", "match", "a")]);
        assert_eq!(verdicts(Vec::new(), vec![back]), [line("2026-12-01", "extra", "a")]);
    }
}
