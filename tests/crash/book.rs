//! The subscriptions of a run, written by hand, and the periods that they owe, counted apart from the engine.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rebilld::domain::attempt::IdBase;
use rebilld::domain::proof::Expected;

/// Card behaviours by the sandbox's prefixes, with how many in a hundred have them.
const CARDS: [(&str, u32); 10] = [
    ("good", 72),
    ("flaky", 8),
    ("insufficient", 4),
    ("twice", 4),
    ("expired", 3),
    ("unknown", 3),
    ("timeout", 2),
    ("outage", 2),
    ("stolen", 1),
    ("ready", 1),
];

// Each test file uses some of this. Naming all of it here keeps the compiler's unused-code lint on without an exception.
const _: () = {
    let _ = Book::invent_plain;
};

/// Personal data of every payer: no log may hold it.
pub const CANARIES: [&str; 3] = ["CANARYNAME", "canary@example.com", "010-9999-CNRY"];

struct Subscription {
    reference: String,
    customer: String,
    plan: &'static str,
    /// Between two periods.
    days: i64,
    starts_on: Date,
}

/// Everything that was inserted so far.
pub struct Book {
    zone: TimeZone,
    today: Date,
    rows: Vec<Subscription>,
    /// When nothing might be sent.
    pub braked: Vec<(Timestamp, Timestamp)>,
}

impl Book {
    pub fn new(now: Timestamp) -> Self {
        let zone = TimeZone::get("Asia/Seoul").expect("the zone of the plans");
        let today = now.to_zoned(zone.clone()).date();
        Self { zone, today, rows: Vec::new(), braked: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Invents so many more, most with several periods that are due at once. Returns the operator's SQL for them.
    pub fn invent(&mut self, count: usize, rng: &mut ChaCha8Rng) -> String {
        let first = self.rows.len();
        for n in first..first + count {
            let (drawn, mut below) = (rng.random_range(0..100), 0);
            let kind = CARDS.iter().find(|(_, share)| {
                below += share;
                drawn < below
            });
            let kind = kind.map_or("good", |(kind, _)| kind);
            let (plan, days, ago) = match rng.random_range(0..10) {
                0..6 => ("daily", 1, rng.random_range(0..4)),
                6..8 => ("strict", 1, rng.random_range(0..4)),
                _ => ("weekly", 7, rng.random_range(0..21)),
            };
            let starts_on = self.today.checked_sub(Span::new().days(ago)).expect("a date");
            let (reference, customer) = (format!("sub-{n:05}"), format!("{kind}-{n:05}"));
            self.rows.push(Subscription { reference, customer, plan, days, starts_on });
        }
        self.written(first)
    }

    /// The same, all with cards that pay and one period that is due; the next is a week away.
    pub fn invent_plain(&mut self, count: usize) -> String {
        let first = self.rows.len();
        for n in first..first + count {
            let (reference, customer) = (format!("sub-{n:05}"), format!("good-{n:05}"));
            self.rows.push(Subscription { reference, customer, plan: "weekly", days: 7, starts_on: self.today });
        }
        self.written(first)
    }

    /// The operator's SQL for the rows from there on.
    fn written(&self, first: usize) -> String {
        let [name, mail, phone] = CANARIES;
        let values: Vec<String> = self.rows[first..]
            .iter()
            .map(|Subscription { reference, customer, plan, starts_on, .. }| {
                format!(
                    "('main', '{reference}', '{plan}', '{customer}', '{starts_on}', '{starts_on}', '{name}', '{mail}', '{phone}')"
                )
            })
            .collect();
        format!(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, starts_on, buyer_name, buyer_email, buyer_tel) VALUES {}",
            values.join(", ")
        )
    }

    /// Every period that falls due until `end`: midnight in Seoul, where no clock ever changes.
    pub fn expected(&self, end: Timestamp) -> Vec<Expected> {
        let tag = "sb".parse().expect("a tag");
        let mut expected = Vec::new();
        for row in &self.rows {
            for n in 0.. {
                let start = row.starts_on.checked_add(Span::new().days(n * row.days)).expect("a date");
                let due_at = start.to_zoned(self.zone.clone()).expect("a midnight").timestamp();
                if due_at > end {
                    break;
                }
                let base = IdBase::derive(tag, "main", &row.reference, start).as_str().to_owned();
                expected.push(Expected { base, external_ref: row.reference.clone(), due_at });
            }
        }
        expected
    }
}
