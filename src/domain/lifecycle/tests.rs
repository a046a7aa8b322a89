use super::*;
use crate::domain::period::instant;
use crate::domain::plan::{AccountTerms, Price};
use crate::domain::recurrence::Recurrence;
use crate::domain::subscription::Adjustment;
use jiff::ToSpan;
use jiff::civil::date;
use proptest::prelude::*;

fn plan(name: &str, every: &str) -> Plan {
    Plan { amount: Some(9_900), ..Plan::new(name, Recurrence::interval(every.parse().unwrap(), None).unwrap()) }
}

fn catalog(plans: impl IntoIterator<Item = Plan>) -> Catalog {
    let seoul = AccountTerms { zone: TimeZone::get("Asia/Seoul").unwrap(), mixed_tax: false };
    Catalog {
        plans: plans.into_iter().map(|plan| (plan.name.clone(), plan)).collect(),
        accounts: [("main".to_owned(), seoul)].into(),
        ..Catalog::default()
    }
}

fn monthly() -> Catalog {
    catalog([plan("monthly", "1 month"), plan("yearly", "1 year"), plan("fortnight", "2 weeks")])
}

fn terms(anchor: Date) -> Terms {
    Terms::new("main", "sub-0001", "monthly", anchor)
}

/// 10:00 in Seoul.
fn at(day: Date) -> Timestamp {
    instant(day, Time::constant(10, 0, 0, 0), &TimeZone::get("Asia/Seoul").unwrap()).unwrap()
}

/// The next so many periods, as texts.
fn walk(catalog: &Catalog, terms: &Terms, progress: Progress, most: usize) -> (Vec<String>, Progress, Option<Next>) {
    let (mut periods, mut progress) = (Vec::new(), progress);
    while periods.len() < most {
        match next_period(catalog, terms, &progress).unwrap() {
            Next::Period(next, after) => {
                periods.push(next.period.to_string());
                progress = after;
            }
            other => return (periods, progress, Some(other)),
        }
    }
    (periods, progress, None)
}

fn first_seen(catalog: &Catalog, terms: &Terms, day: Date) -> Progress {
    seen(catalog, terms, Progress::default(), at(day), false, at(day)).unwrap()
}

#[test]
fn the_first_charge_comes_when_the_trial_ends() {
    let catalog = monthly();
    let terms = Terms { trial_days: Some(14), ..terms(date(2026, 1, 31)) };
    let progress = first_seen(&catalog, &terms, date(2026, 1, 31));
    let (periods, _, _) = walk(&catalog, &terms, progress, 3);
    assert_eq!(periods, ["2026-02-14..2026-03-14", "2026-03-14..2026-04-14", "2026-04-14..2026-05-14"]);
    // the anchor kept: a short first period, and the 31st again after that
    let kept = Terms { trial_anchor: Some(TrialAnchor::Keep), ..terms.clone() };
    let (periods, _, _) = walk(&catalog, &kept, progress, 3);
    assert_eq!(periods, ["2026-02-14..2026-02-28", "2026-02-28..2026-03-31", "2026-03-31..2026-04-30"]);
    let until = Terms { trial_days: None, trial_until: Some(date(2026, 2, 1)), ..terms };
    assert_eq!(walk(&catalog, &until, progress, 1).0, ["2026-02-01..2026-03-01"]);
}

#[test]
fn a_trial_that_was_over_before_the_row_came_changes_no_day_but_the_anchor() {
    let catalog = monthly();
    let terms = Terms { trial_days: Some(14), starts_on: Some(date(2026, 5, 1)), ..terms(date(2026, 1, 31)) };
    let progress = first_seen(&catalog, &terms, date(2026, 5, 1));
    assert_eq!(walk(&catalog, &terms, progress, 1).0, ["2026-05-14..2026-06-14"]);
}

#[test]
fn the_plans_trial_is_for_those_who_were_never_billed() {
    let mut catalog = monthly();
    catalog.plans.get_mut("monthly").unwrap().trial_days = 30;
    let billed = Progress { opened_until: Some(date(2026, 2, 15)), not_before: Some(date(2026, 1, 15)), ..Progress::default() };
    assert_eq!(walk(&catalog, &terms(date(2026, 1, 15)), billed, 1).0, ["2026-02-15..2026-03-15"]);
    // and a row may take it away
    let none = Terms { trial_days: Some(0), ..terms(date(2026, 1, 15)) };
    let progress = first_seen(&catalog, &none, date(2026, 1, 15));
    assert_eq!(walk(&catalog, &none, progress, 1).0, ["2026-01-15..2026-02-15"]);
}

#[test]
fn the_months_of_a_pause_are_never_charged_for() {
    let catalog = monthly();
    for starts_on in [None, Some(date(2026, 1, 1))] {
        let terms = Terms { starts_on, ..terms(date(2026, 1, 1)) };
        let progress = Progress { not_before: Some(date(2026, 1, 1)), ..Progress::default() };
        let resumed = seen(&catalog, &terms, progress, at(date(2026, 1, 1)), true, at(date(2026, 4, 15))).unwrap();
        let over = passed_over(&catalog, &terms, &resumed).unwrap().unwrap();
        assert_eq!((over.count, over.first, over.until), (4, date(2026, 1, 1), date(2026, 5, 1)));
        let resumed = over.after;
        assert_eq!(passed_over(&catalog, &terms, &resumed).unwrap(), None, "it is told once");
        // the pause is over and forgotten by the schedule, but what it was looked at with is kept
        let later = seen(&catalog, &terms, resumed, at(date(2026, 1, 1)), false, at(date(2026, 5, 1))).unwrap();
        assert_eq!(walk(&catalog, &terms, later, 1).0, ["2026-05-01..2026-06-01"]);
    }
}

#[test]
fn a_start_in_the_future_outlasts_a_pause() {
    let catalog = monthly();
    let terms = Terms { starts_on: Some(date(2026, 12, 1)), resume: Some(Resume::Anchor), ..terms(date(2026, 1, 1)) };
    let resumed = seen(&catalog, &terms, Progress::default(), at(date(2026, 1, 1)), true, at(date(2026, 9, 1))).unwrap();
    assert_eq!((resumed.not_before, resumed.anchor), (Some(date(2026, 12, 1)), None));
}

#[test]
fn a_resumed_subscription_may_count_from_the_day_of_its_return() {
    let catalog = monthly();
    let terms = Terms { resume: Some(Resume::Anchor), ..terms(date(2026, 1, 31)) };
    let paid = Progress {
        opened_until: Some(date(2026, 2, 28)),
        not_before: Some(date(2026, 1, 31)),
        periods: 1,
        ..Progress::default()
    };
    let resumed = seen(&catalog, &terms, paid, at(date(2026, 1, 1)), true, at(date(2026, 4, 15))).unwrap();
    assert_eq!(walk(&catalog, &terms, resumed, 2).0, ["2026-04-15..2026-05-15", "2026-05-15..2026-06-15"]);
    // back before the paid period has ended: nothing was lost, nothing moves
    let early = seen(&catalog, &terms, paid, at(date(2026, 1, 1)), true, at(date(2026, 2, 20))).unwrap();
    assert_eq!(walk(&catalog, &terms, early, 1).0, ["2026-02-28..2026-03-31"]);
    // nor during a trial
    let trial = Terms { trial_days: Some(30), ..terms };
    let early = seen(&catalog, &trial, Progress::default(), at(date(2026, 1, 1)), true, at(date(2026, 2, 20))).unwrap();
    assert_eq!(walk(&catalog, &trial, early, 1).0, ["2026-03-02..2026-04-02"]);
}

#[test]
fn a_new_plan_starts_where_the_last_period_ends_and_counts_from_there() {
    let catalog = monthly();
    let progress = Progress {
        opened_until: Some(date(2026, 2, 28)),
        not_before: Some(date(2026, 1, 31)),
        periods: 1,
        ..Progress::default()
    };
    let yearly = Terms { next_plan: Some("yearly".to_owned()), ..terms(date(2026, 1, 31)) };
    let (periods, after, _) = walk(&catalog, &yearly, progress, 2);
    assert_eq!(periods, ["2026-02-28..2027-02-28", "2027-02-28..2028-02-28"]);
    // as the rows say it once the change has been written
    let written = Terms { plan: "yearly".to_owned(), next_plan: None, ..yearly.clone() };
    let after = Progress { walked: false, ..after };
    assert_eq!(walk(&catalog, &written, after, 1).0, ["2028-02-28..2029-02-28"]);
    // the same boundaries keep their anchor, so that the 31st comes back
    let mut same = monthly();
    same.plans.insert("pro".to_owned(), plan("pro", "1 month"));
    let pro = Terms { next_plan: Some("pro".to_owned()), ..yearly };
    assert_eq!(walk(&same, &pro, progress, 2).0, ["2026-02-28..2026-03-31", "2026-03-31..2026-04-30"]);
}

#[test]
fn an_end_wins_over_a_period_that_would_start_on_it() {
    let catalog = monthly();
    let progress = Progress { not_before: Some(date(2026, 1, 15)), ..Progress::default() };
    let ending = |ends_on| Terms { ends_on: Some(ends_on), ..terms(date(2026, 1, 15)) };
    let tie = ending(date(2026, 3, 15));
    let (periods, _, end) = walk(&catalog, &tie, progress, 9);
    assert_eq!(periods, ["2026-01-15..2026-02-15", "2026-02-15..2026-03-15"]);
    assert_eq!(end, Some(Next::Ended { why: Ending::EndsOn, on: Some(date(2026, 3, 15)) }));
    assert_eq!(walk(&catalog, &ending(date(2026, 3, 16)), progress, 9).0.len(), 3);
    // an end before the trial's means no charge at all
    let trial = Terms { trial_days: Some(90), ..tie };
    assert_eq!(walk(&catalog, &trial, progress, 9).0.len(), 0);
}

#[test]
fn a_maximum_counts_what_has_opened() {
    let catalog = monthly();
    let twelve = Terms { max_periods: Some(12), ..terms(date(2026, 1, 31)) };
    let (periods, after, end) = walk(&catalog, &twelve, first_seen(&catalog, &twelve, date(2026, 1, 31)), 99);
    assert_eq!((periods.len(), after.periods), (12, 12));
    assert_eq!(end, Some(Next::Ended { why: Ending::MaxPeriods, on: Some(date(2027, 1, 31)) }));
}

#[test]
fn a_cancellation_at_the_periods_end_can_be_taken_back() {
    let catalog = monthly();
    let progress = Progress {
        opened_until: Some(date(2026, 2, 15)),
        not_before: Some(date(2026, 1, 15)),
        periods: 1,
        ..Progress::default()
    };
    let cancelled = Terms { cancel_at_period_end: true, ..terms(date(2026, 1, 15)) };
    let ended = Next::Ended { why: Ending::CancelledAtPeriodEnd, on: Some(date(2026, 2, 15)) };
    assert_eq!(next_period(&catalog, &cancelled, &progress).unwrap(), ended);
    let again = seen(&catalog, &terms(date(2026, 1, 15)), progress, at(date(2026, 1, 1)), true, at(date(2026, 2, 1))).unwrap();
    assert_eq!(walk(&catalog, &terms(date(2026, 1, 15)), again, 1).0, ["2026-02-15..2026-03-15"]);
}

#[test]
fn adjustments_are_used_once_and_a_discount_of_all_is_free() {
    let catalog = monthly();
    let progress = Progress { not_before: Some(date(2026, 1, 15)), ..Progress::default() };
    let with = |amounts: &[i64]| Terms {
        adjustments: amounts.iter().zip(1..).map(|(amount, id)| Adjustment { id, amount: *amount }).collect(),
        ..terms(date(2026, 1, 15))
    };
    let Next::Period(first, after) = next_period(&catalog, &with(&[-1_000, 300]), &progress).unwrap() else { panic!() };
    assert_eq!((first.amount, first.adjustments), (Money::krw(9_200), vec![1, 2]));
    let Next::Period(second, _) = next_period(&catalog, &with(&[-1_000, 300]), &after).unwrap() else { panic!() };
    assert_eq!((second.amount, second.adjustments), (Money::krw(9_900), vec![]));
    let Next::Period(free, _) = next_period(&catalog, &with(&[-9_900]), &progress).unwrap() else { panic!() };
    assert_eq!(free.amount, Money::krw(0));
    let wrong = next_period(&catalog, &with(&[-9_901]), &progress).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "discounts of 9,901 KRW are larger than the next charge of 9,900 KRW: take one back, or give a smaller one"
    );
}

#[test]
fn the_zone_is_the_subscriptions_else_the_plans_else_the_accounts() {
    let mut catalog = monthly();
    let of = |catalog: &Catalog, terms: &Terms| catalog.zone(terms).map(|zone| zone.iana_name().unwrap().to_owned());
    let mut row = terms(date(2026, 1, 15));
    assert_eq!(of(&catalog, &row).unwrap(), "Asia/Seoul");
    catalog.plans.get_mut("monthly").unwrap().zone = Some(TimeZone::get("Europe/London").unwrap());
    assert_eq!(of(&catalog, &row).unwrap(), "Europe/London");
    row.zone = Some("Asia/Kolkata".to_owned());
    assert_eq!(of(&catalog, &row).unwrap(), "Asia/Kolkata");
    row.zone = Some("Asia/Nowhere".to_owned());
    assert_eq!(of(&catalog, &row).unwrap_err(), Problem::UnknownZone("Asia/Nowhere".to_owned()));
    let elsewhere = Terms { account: "other".to_owned(), ..terms(date(2026, 1, 15)) };
    catalog.plans.get_mut("monthly").unwrap().zone = None;
    assert!(of(&catalog, &elsewhere).unwrap_err().to_string().contains("account `other`"));
}

#[test]
fn what_was_missed_is_counted_with_its_sum() {
    let catalog = monthly();
    let row = Terms { adjustments: vec![Adjustment { id: 1, amount: -900 }], ..terms(date(2026, 1, 31)) };
    let progress = Progress {
        opened_until: Some(date(2026, 2, 28)),
        not_before: Some(date(2026, 1, 31)),
        periods: 1,
        ..Progress::default()
    };
    assert_eq!(missed(&catalog, &row, &progress, at(date(2026, 2, 27))).unwrap(), None);
    let found = missed(&catalog, &row, &progress, at(date(2026, 5, 31))).unwrap().unwrap();
    assert_eq!((found.count, found.sum), (4, Some(Money::krw(4 * 9_900 - 900))));
    assert_eq!((found.first.start, found.latest.start), (date(2026, 2, 28), date(2026, 5, 31)));
    // the discount is for the next charge, and passing over charges nothing
    let Next::Period(next, _) = next_period(&catalog, &row, &found.at_latest).unwrap() else { panic!() };
    assert_eq!((next.period.start, next.amount), (date(2026, 5, 31), Money::krw(9_000)));
    let Next::Period(next, after) = next_period(&catalog, &row, &found.past_all).unwrap() else { panic!() };
    assert_eq!((next.period.start, after.periods), (date(2026, 6, 30), 2));
}

/// What an operator may do between two periods.
#[derive(Debug, Clone)]
enum Change {
    Pause { days: i64, resume: Resume },
    Plan(&'static str),
    Anchor(i64),
    Price(i64),
    CatchUp(i64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0i64..120, prop::bool::ANY)
            .prop_map(|(days, keep)| Change::Pause { days, resume: if keep { Resume::Keep } else { Resume::Anchor } }),
        prop::sample::select(vec!["monthly", "yearly", "fortnight"]).prop_map(Change::Plan),
        (0i64..40).prop_map(Change::Anchor),
        (1i64..100_000).prop_map(Change::Price),
        (0i64..200).prop_map(Change::CatchUp),
    ]
}

proptest! {
    /// Whatever is changed in between: no overlap, no gap but the days of a pause and what is passed over on purpose.
    #[test]
    fn periods_never_overlap_and_leave_no_gap_that_nobody_asked_for(
        day in 0i64..800, trial in 0u32..60, keeps in prop::bool::ANY, changes in prop::collection::vec(change(), 0..12),
    ) {
        let catalog = monthly();
        let mut row = terms(date(2023, 1, 1).checked_add(day.days()).unwrap());
        row.trial_days = Some(trial);
        row.trial_anchor = Some(if keeps { TrialAnchor::Keep } else { TrialAnchor::TrialEnd });
        let mut progress = first_seen(&catalog, &row, row.anchor);
        let begins = row.anchor.checked_add(i64::from(trial).days()).unwrap();
        let mut expected = Some(begins);
        for change in changes.into_iter().map(Some).chain([None, None, None]) {
            let end = progress.opened_until;
            match change {
                Some(Change::Pause { days, resume }) => {
                    row.resume = Some(resume);
                    let back = end.unwrap_or(begins).checked_add((days - 10).days()).unwrap();
                    progress = seen(&catalog, &row, progress, at(date(2026, 1, 1)), true, at(back)).unwrap();
                    if back > end.unwrap_or(begins) {
                        expected = (resume == Resume::Anchor).then_some(back);
                    }
                }
                Some(Change::Plan(name)) => row.next_plan = Some(name.to_owned()),
                Some(Change::Anchor(days)) => {
                    // as the database does it: a new anchor by hand is counted from at once
                    row.anchor = row.anchor.checked_add(days.days()).unwrap();
                    progress.anchor = None;
                    if end.is_none() {
                        expected = None;
                    }
                }
                Some(Change::Price(amount)) => {
                    let from = end.unwrap_or(row.anchor);
                    row.prices = vec![Price { from, amount, tax_free: None, vat_amount: None }];
                }
                Some(Change::CatchUp(days)) => {
                    let now = at(end.unwrap_or(begins).checked_add(days.days()).unwrap());
                    if let Some(found) = missed(&catalog, &row, &progress, now).unwrap() {
                        let Next::Period(latest, _) = next_period(&catalog, &row, &found.at_latest).unwrap() else { panic!() };
                        prop_assert!(found.count == 1 || latest.period.start >= found.first.end);
                        prop_assert!(latest.due_at <= now);
                        progress = found.at_latest;
                        expected = Some(latest.period.start);
                    }
                }
                None => {}
            }
            let Next::Period(next, after) = next_period(&catalog, &row, &progress).unwrap() else { panic!("it has no end") };
            prop_assert!(next.period.start < next.period.end);
            prop_assert!(progress.opened_until.is_none_or(|end| next.period.start >= end), "{:?}", next);
            prop_assert!(next.period.start >= progress.not_before.unwrap());
            if let Some(expected) = expected {
                prop_assert_eq!(next.period.start, expected, "{:?}", progress);
            }
            // written, as the store writes it
            if let Some(plan) = row.next_plan.take() {
                row.plan = plan;
            }
            progress = Progress { walked: false, ..after };
            expected = Some(next.period.end);
        }
    }
}

/// What happens to a subscription on one day, before it is looked at.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Pause,
    Return,
    /// No period can open: an unresolved charge holds it, or an operator is asked first.
    Blocked,
    Free,
    /// `starts_on` is set and taken back.
    StartTakenBack,
    /// Nobody looks on the days that follow, or somebody does again.
    Down,
    Up,
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::{Blocked, Down, Free, Pause, Return, StartTakenBack, Up};
    prop::sample::select(vec![Pause, Return, Blocked, Free, StartTakenBack, Down, Up])
}

proptest! {
    /// Day by day, as the daemon lives it: what opens is every period that starts from the day on which the row was written on
    /// and in no pause, whatever has held it up; what does not open has been told.
    #[test]
    fn every_period_opens_that_starts_in_no_pause(
        before in 0i64..100, every in prop::sample::select(vec!["monthly", "fortnight"]), unplanned in 0i64..60,
        happenings in prop::collection::vec((0i64..400, happens()), 0..14),
    ) {
        let catalog = monthly();
        let written = date(2026, 1, 1);
        let mut row = Terms { plan: "nothing".to_owned(), ..terms(written.checked_sub(before.days()).unwrap()) };
        let (mut progress, mut starts, mut told, mut pauses) = (Progress::default(), Vec::new(), 0, 0);
        let (mut blocked, mut down) = (false, false);
        let mut expected = Vec::new();
        for n in 0..460 {
            let today = written.checked_add(n.days()).unwrap();
            // the end is quiet, so that everything is caught up with
            for (_, happening) in happenings.iter().filter(|(on, _)| *on == n) {
                match happening {
                    // a pause that nobody sees begins when it is seen
                    Happens::Pause if !down && n >= unplanned => row.status = Status::Paused,
                    Happens::Return if !down => row.status = Status::Active,
                    Happens::Pause | Happens::Return => {}
                    Happens::Blocked => blocked = true,
                    Happens::Free => blocked = false,
                    Happens::StartTakenBack => progress.not_before = None,
                    Happens::Down => down = true,
                    Happens::Up => down = false,
                }
            }
            if n == unplanned {
                row.plan = every.to_owned();
            }
            if n == 400 {
                (row.status, blocked, down) = (Status::Active, false, false);
            }
            // a pause or a return is of the day on which it is seen
            let active = if down { progress.stopped_on.is_none() } else { row.status == Status::Active };
            if active {
                let recurrence = &catalog.plans[every].recurrence;
                if recurrence.first_start_from(row.anchor, today) == Some(today) {
                    expected.push(today);
                }
            }
            if down {
                continue;
            }
            if row.status == Status::Paused {
                pauses += i32::from(progress.stopped_on.is_none());
                progress.stopped_on = progress.stopped_on.or(Some(today));
                continue;
            }
            let resumed = progress.stopped_on.is_some();
            let Ok(now) = seen(&catalog, &row, progress, at(written), resumed, at(today)) else { continue };
            progress = now;
            loop {
                if let Some(over) = passed_over(&catalog, &row, &progress).unwrap() {
                    told += over.count;
                    progress = over.after;
                    // as the row keeps it
                    prop_assert_eq!(progress.gaps.to_string().parse::<Gaps>().unwrap(), progress.gaps);
                }
                let Next::Period(next, after) = next_period(&catalog, &row, &progress).unwrap() else { panic!("it has no end") };
                if blocked || next.due_at > at(today) {
                    break;
                }
                starts.push(next.period.start);
                progress = Progress { walked: false, ..after };
            }
        }
        // more pauses at once than there are places are joined, and told as one
        if pauses <= 4 {
            prop_assert_eq!(&starts, &expected);
        }
        prop_assert!(starts.iter().all(|start| expected.contains(start)));
        let recurrence = &catalog.plans[every].recurrence;
        let day = |n: i64| written.checked_add(n.days()).unwrap();
        let all = (0..460).filter(|n| recurrence.first_start_from(row.anchor, day(*n)) == Some(day(*n))).count();
        prop_assert_eq!(starts.len() + told as usize, all, "what is not charged is told");
    }
}
