//! The book of a seed: its plans and subscriptions as its operator wants them, and the periods that follow from them alone.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::{Date, date, time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rebilld::domain::attempt::IdBase;
use rebilld::domain::plan::{Catalog, CatchUp, Plan, WhilePastDue};
use rebilld::domain::proof::Expected;
use rebilld::domain::recurrence::Recurrence;
use rebilld::store::desk::Given;
use rebilld::store::desk::columns::{
    ACCOUNT, AMOUNT, ANCHOR, COLUMNS, CUSTOMER_UID, EXTERNAL_REF, PLAN, STARTS_ON, STATUS, index,
};

use crate::faults::{Swarm, rng};

pub const TAG: &str = "sb";

/// A subscription as its operator wants it.
#[derive(Debug, Clone)]
pub struct Row {
    pub external_ref: String,
    pub plan: &'static str,
    pub customer_uid: String,
    pub anchor: Date,
    pub amount: Option<i64>,
    pub status: &'static str,
    /// Spans in which its periods are not counted on: it was paused or cancelled in them, or soon after.
    pub uncertain: Vec<(Timestamp, Timestamp)>,
    /// When it was paused, or cancelled: nothing of it may be charged then.
    pub stopped: Vec<(Timestamp, Timestamp)>,
}

/// A period that somebody owes.
#[derive(Debug)]
pub struct Owed<'a> {
    pub external_ref: &'a str,
    pub due_at: Timestamp,
    /// When nothing of its subscription may be charged.
    pub stopped: &'a [(Timestamp, Timestamp)],
}

impl Row {
    /// As an import has it.
    pub fn cells(&self) -> Vec<Given> {
        let mut cells = vec![Given::Not; COLUMNS.len()];
        let value = |text: &str| Given::Value(text.to_owned());
        cells[ACCOUNT] = value("main");
        cells[EXTERNAL_REF] = value(&self.external_ref);
        cells[STATUS] = value(self.status);
        cells[PLAN] = value(self.plan);
        cells[CUSTOMER_UID] = value(&self.customer_uid);
        cells[ANCHOR] = value(&self.anchor.to_string());
        cells[STARTS_ON] = value(&self.anchor.to_string());
        cells[AMOUNT] = self.amount.map_or(Given::Empty, |amount| value(&amount.to_string()));
        cells[index("buyer_name").unwrap()] = value("CANARY-NAME");
        cells
    }
}

/// Plans, rows, and the cards behind them.
pub struct Book {
    pub catalog: Catalog,
    pub rows: Vec<Row>,
    pub cards: HashMap<String, u32>,
}

/// Plans whose periods are the same: a subscription may move between them.
const TWINS: [(&str, &str); 2] = [("monthly", "monthly-plus"), ("days", "days-plus")];

/// The plan with the same days, if there is one.
pub fn twin(plan: &str) -> Option<&'static str> {
    TWINS.iter().find_map(|(one, other)| match plan {
        _ if plan == *one => Some(*other),
        _ if plan == *other => Some(*one),
        _ => None,
    })
}

fn plans() -> Catalog {
    let plan = |name: &str, every: &str, amount: i64, policy: WhilePastDue, zone: &str| Plan {
        zone: TimeZone::get(zone).ok(),
        amount: Some(amount),
        title: Some("Pro".to_owned()),
        // nothing may be missing, however long a charge or a dead process has held the next period up
        catch_up: CatchUp::All { most: u32::MAX },
        while_past_due: policy,
        ..Plan::new(name, Recurrence::interval(every.parse().unwrap(), None).unwrap())
    };
    let (hold, go_on) = (WhilePastDue::Hold, WhilePastDue::Continue);
    let plans = [
        plan("monthly", "1 month", 9_900, hold, "Asia/Seoul"),
        plan("monthly-plus", "1 month", 14_900, hold, "Asia/Seoul"),
        plan("fortnight", "2 weeks", 5_000, go_on, "Asia/Seoul"),
        plan("days", "10 days", 3_300, go_on, "Asia/Seoul"),
        plan("days-plus", "10 days", 4_400, go_on, "Asia/Seoul"),
        // an hour that is not there on one day of the year, and there twice on another
        Plan { charge_time: time(2, 30, 0, 0), ..plan("berlin", "1 month", 19_000, go_on, "Europe/Berlin") },
        Plan { charge_time: time(2, 30, 0, 0), ..plan("new-york", "1 week", 2_000, go_on, "America/New_York") },
    ];
    Catalog { plans: plans.into_iter().map(|plan| (plan.name.clone(), plan)).collect(), ..Catalog::default() }
}

impl Book {
    pub fn of(swarm: &Swarm) -> Self {
        let mut cards = HashMap::new();
        let rows = (0..swarm.subscriptions).map(|n| {
            // each of its own, so that a smaller book is a part of the larger one
            let mut rng = rng(swarm.seed, &["subscription", &n.to_string()]);
            let customer_uid = format!("card-{n}");
            let declines = rng.random_range(0..100) < swarm.declining;
            match (declines, rng.random_range(0..12)) {
                // not registered at the gateway
                (true, 0) => {}
                (true, _) => drop(cards.insert(customer_uid.clone(), [300, 700, 1000][rng.random_range(0..3)])),
                (false, _) => drop(cards.insert(customer_uid.clone(), 0)),
            }
            let plan = match rng.random_range(0..100) {
                0..80 => "monthly",
                80..85 => "fortnight",
                85..90 => "days",
                90..95 => "berlin",
                95..97 => "new-york",
                _ => "monthly-plus",
            };
            // many on few days, as it is after an import
            let day = if rng.random_range(0..12) == 0 { rng.random_range(6..32) } else { [6, 6, 15, 31][rng.random_range(0..4)] };
            // and on the days on which a clock changes: in spring March 29 in Berlin and March 8 in New York, in autumn October 25
            let day = match (plan, swarm.autumn, n % 2 == 0) {
                ("berlin", false, true) => 29,
                ("berlin", true, true) => 25,
                ("new-york", false, true) => 11,
                _ => day,
            };
            let anchor = if swarm.autumn { date(2026, 9, day.min(30)) } else { date(2026, 1, day) };
            let (uncertain, stopped) = (Vec::new(), Vec::new());
            Row {
                external_ref: format!("sub-{n}"),
                plan,
                customer_uid,
                anchor,
                amount: None,
                status: "active",
                uncertain,
                stopped,
            }
        });
        Self { rows: rows.collect(), catalog: plans(), cards }
    }

    /// Every period that fell due by `end`, counted from the rows alone.
    pub fn expected(&self, end: Timestamp) -> Vec<Expected> {
        let mut expected = Vec::new();
        for (row, base, due_at) in self.periods(end) {
            if !row.uncertain.iter().any(|(from, to)| *from <= due_at && due_at < *to) {
                expected.push(Expected { base, external_ref: row.external_ref.clone(), due_at });
            }
        }
        expected
    }

    /// The same with those that may or may not be charged, by what their ids share.
    pub fn owed(&self, end: Timestamp) -> HashMap<String, Owed<'_>> {
        let owed = |(row, base, due_at): (_, String, _)| {
            let row: &Row = row;
            (base, Owed { external_ref: &row.external_ref, due_at, stopped: &row.stopped })
        };
        self.periods(end).into_iter().map(owed).collect()
    }

    fn periods(&self, end: Timestamp) -> Vec<(&Row, String, Timestamp)> {
        let mut all = Vec::new();
        let mut starts: BTreeMap<(&str, Date), Vec<(Date, Timestamp)>> = BTreeMap::new();
        for row in &self.rows {
            let plan = &self.catalog.plans[row.plan];
            let zone = plan.zone.as_ref().unwrap();
            let periods = starts.entry((row.plan, row.anchor)).or_insert_with(|| {
                let starts = (0..).map(|n| plan.recurrence.start(row.anchor, n).unwrap());
                let due = starts.map(|start| (start, rebilld::domain::period::instant(start, plan.charge_time, zone).unwrap()));
                due.take_while(|(_, due)| *due <= end).collect()
            });
            for (start, due_at) in periods.iter() {
                let base = IdBase::derive(TAG.parse().unwrap(), "main", &row.external_ref, *start).as_str().to_owned();
                all.push((row, base, *due_at));
            }
        }
        all
    }

    /// Whether a row's charge is due on a day on which its hour is not there, or there twice.
    pub fn odd_hour(&self, external_ref: &str, due_at: Timestamp) -> Option<&'static str> {
        let row = self.rows.iter().find(|row| row.external_ref == external_ref)?;
        let plan = &self.catalog.plans[row.plan];
        let zone = plan.zone.as_ref()?;
        let day = due_at.to_zoned(zone.clone()).date();
        match zone.to_ambiguous_timestamp(day.to_datetime(plan.charge_time)).offset() {
            AmbiguousOffset::Unambiguous { .. } => None,
            AmbiguousOffset::Gap { .. } => Some("calendar: due in an hour that is not there"),
            AmbiguousOffset::Fold { .. } => Some("calendar: due in an hour that is there twice"),
        }
    }

    /// From now on a subscription is not counted on until `to`, nor what fell due before and may wait for an earlier charge.
    pub fn doubt(&mut self, row: usize, now: Timestamp, to: Timestamp) {
        self.rows[row].uncertain.push((now - SignedDuration::from_hours(62 * 24), to));
    }

    /// From now on nothing of a subscription may be charged.
    pub fn stop(&mut self, row: usize, now: Timestamp) {
        self.rows[row].stopped.push((now, Timestamp::MAX));
    }

    /// From now on it may again.
    pub fn go_on(&mut self, row: usize, now: Timestamp) {
        if let Some((_, to)) = self.rows[row].stopped.last_mut() {
            *to = now;
        }
    }
}
