//! What the tests do with the store, in the words of the domain.

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use rebilld::domain::attempt::{AttemptState, SendEnd};
use rebilld::domain::charge::{Charge, ChargeState, IdMode, Waiting};
use rebilld::domain::decide::{Decision, LiveChange};
use rebilld::domain::event::{Event, EventKind};
use rebilld::domain::fuse::Fuse;
use rebilld::domain::lifecycle::{NextPeriod, Progress};
use rebilld::domain::money::{Currency, Money};
use rebilld::domain::period::Period;
use rebilld::domain::plan::WhilePastDue;
use rebilld::ports::store::{
    Begin, Claim, ClaimToken, Claimed, DueSchedule, Entry, Fence, Intent, Lane, Observation, ScheduleAction, ScheduleStep, Store,
};
use serde_json::json;

use super::rig::{World, later, now};

pub fn token(text: &str) -> ClaimToken {
    ClaimToken(text.to_owned())
}

/// The `n`th month from December 2026.
pub fn day(n: i8) -> Date {
    if n == 1 { date(2026, 12, 1) } else { date(2027, n - 1, 1) }
}

/// Opens the month that starts on `start`.
pub fn open_step(due: &DueSchedule, start: Date, due_at: Timestamp) -> ScheduleStep {
    let period = Period { start, end: start.checked_add(jiff::Span::new().months(1)).unwrap() };
    let next = NextPeriod {
        period,
        due_at,
        amount: Money::new(9_900, Currency::KRW),
        tax_free: None,
        vat_amount: Some(900),
        trial_end: None,
        changes_plan: false,
        adjustments: Vec::new(),
    };
    let after = Progress { opened_until: Some(period.end), periods: due.progress.periods + 1, ..due.progress };
    let action = ScheduleAction::Open {
        next,
        first_at: due_at,
        after,
        id_mode: IdMode::PerAttempt,
        policy: WhilePastDue::Hold,
        next_look: Some(later(30 * 86_400)),
        config_version: None,
        claim: None,
    };
    ScheduleStep { subscription: due.terms.id, version: due.version, progress: due.progress, action }
}

pub fn claim_of(world: &World, lane: Lane, text: &str, limit: u32) -> Claim {
    Claim { account: world.account.id, lane, token: token(text), now: now(), due_until: later(5), claim_until: later(60), limit }
}

pub fn begin_of(world: &World, text: &str, claimed: &[Claimed]) -> Begin {
    let intent = |claimed: &Claimed| {
        let charge = &claimed.charge;
        Intent {
            charge: charge.id,
            attempt: charge.live.as_ref().map(|live| live.id),
            attempt_number: charge.live.as_ref().map_or(charge.attempts + 1, |live| live.number),
            id_number: charge.live_id(),
            owns_id: false,
            merchant_uid: charge.base.number(charge.live_id()),
            customer_uid: claimed.payer.customer_uid.clone(),
            amount: charge.amount,
            body: json!({ "n": charge.external_ref }).to_string(),
        }
    };
    Begin {
        account: world.account.id,
        endpoint: world.account.endpoint,
        token: token(text),
        now: now(),
        budget_day: day(1),
        budget_count: None,
        budget_sum: None,
        fuse: Fuse::NONE,
        newest: None,
        intents: claimed.iter().map(intent).collect(),
    }
}

pub fn decided(charge: &Charge, change: impl FnOnce(&mut Decision)) -> Decision {
    let mut decision = Decision {
        rule: "a test",
        charge: charge.clone(),
        live: LiveChange::Keep,
        adopt: Vec::new(),
        send: None,
        events: Vec::new(),
        incidents: Vec::new(),
        refusal: None,
        end: None,
        grace: SignedDuration::ZERO,
        pause: None,
        is_truth: false,
    };
    change(&mut decision);
    decision
}

/// The live attempt's answer: paid.
pub fn paid(charge: &Charge, imp_uid: &str) -> Decision {
    decided(charge, |decision| {
        let live = charge.live.as_ref().unwrap();
        decision.is_truth = true;
        decision.live = LiveChange::End { state: AttemptState::Paid, imp_uid: Some(imp_uid.to_owned()) };
        decision.send = live.open_send.map(|send| (send.id, SendEnd::Answered));
        decision.charge.state = ChargeState::Paid;
        decision.charge.waiting = Waiting::Nothing;
        decision.charge.next_at = None;
        decision.charge.paid_imp_uid = Some(imp_uid.to_owned());
        decision.events.push(Event::of_charge(EventKind::ChargePaid, &decision.charge, "", json!({ "imp_uid": imp_uid })));
    })
}

pub fn entry(charge: &Charge, fence: Fence, decision: Decision) -> Entry {
    let observation = Observation {
        source: "answer",
        send: charge.live.as_ref().and_then(|live| live.open_send).map(|send| send.id),
        began_at: now(),
        detail: json!({ "said": "so" }),
    };
    Entry { charge: charge.id, fence, observation: Some(observation), decision: Some(decision) }
}

impl World {
    /// Rows as an operator writes them.
    pub async fn subscribe(&self, prefix: &str, numbers: std::ops::RangeInclusive<u32>) {
        let rows: Vec<String> = numbers
            .map(|n| {
                format!(
                    "('main', '{prefix}-{n}', 'monthly', 'card-{prefix}-{n}', '2026-12-01', '{{\"naverUseCfm\":\"20270101\"}}')"
                )
            })
            .collect();
        let sql = format!(
            "INSERT INTO subscriptions (account, external_ref, plan, customer_uid, anchor, extra) VALUES {}",
            rows.join(", ")
        );
        self.sql(&sql).await.unwrap();
    }

    /// `n` subscriptions with a charge that is due now.
    pub async fn open_charges(&self, n: u32) {
        self.subscribe("s", 1..=n).await;
        let due = self.db.due_schedules(now(), n).await.unwrap();
        let steps: Vec<ScheduleStep> = due.iter().map(|due| open_step(due, day(1), now())).collect();
        self.db.step_schedules(now(), &steps).await.unwrap();
    }

    /// `n` charges that are claimed under `text`.
    pub async fn claimed(&self, n: u32, text: &str) -> Vec<Claimed> {
        self.open_charges(n).await;
        self.db.claim(&claim_of(self, Lane::Send, text, n)).await.unwrap()
    }

    /// `n` charges with an open send each, claimed under `text`.
    pub async fn begun(&self, n: u32, text: &str) -> (Vec<Claimed>, Vec<Charge>) {
        let claimed = self.claimed(n, text).await;
        let begun = self.db.begin(begin_of(self, text, &claimed)).await.unwrap();
        assert!(begun.attempts.iter().all(Result::is_ok), "{begun:?}");
        let ids: Vec<_> = claimed.iter().map(|claimed| claimed.charge.id).collect();
        let loaded = self.db.load(&ids).await.unwrap();
        (claimed, loaded)
    }

    pub async fn one_begun(&self, text: &str) -> (Vec<Claimed>, Charge) {
        let (claimed, mut loaded) = self.begun(1, text).await;
        (claimed, loaded.remove(0))
    }

    /// As any change of an operator does.
    pub async fn poke_schedules(&self) {
        self.sql("UPDATE subscriptions SET plan = 'monthly'").await.unwrap();
    }
}
