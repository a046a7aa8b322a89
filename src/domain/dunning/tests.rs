use jiff::civil::date;
use proptest::prelude::*;

use super::*;

/// A Tuesday, 10:00 in Korea.
fn first() -> Timestamp {
    "2026-12-01T01:00:00Z".parse().unwrap()
}

fn korea(dunning: Dunning) -> Local {
    Local { dunning: Arc::new(dunning), ..Local::default() }
}

fn after(hours: i64) -> Timestamp {
    first() + SignedDuration::from_hours(hours)
}

fn at(local: &Local, class: Class, rung: u8, now: Timestamp) -> Option<Timestamp> {
    local.next_try(&Declined { class, rung, first_at: first(), now, seed: 7 })
}

/// The days after the first decline on which a charge is tried that is always declined at once.
fn schedule(local: &Local, class: Class) -> Vec<i64> {
    let mut now = first();
    let mut days = Vec::new();
    for rung in 1..=20 {
        let Some(next) = at(local, class, rung, now) else { break };
        days.push(next.duration_since(first()).as_hours() / 24);
        now = next;
    }
    days
}

#[test]
fn the_ladder_counts_from_the_first_decline() {
    let local = Local::default();
    assert_eq!(schedule(&local, Class::SoftFunds), [1, 3, 5, 7]);
    assert_eq!(schedule(&local, Class::SoftContact), [1, 3]);
    assert_eq!(schedule(&local, Class::Transient), [1, 3, 5, 7]);
    assert_eq!(schedule(&local, Class::Unknown), [1]);
    assert_eq!(schedule(&local, Class::Ambiguous), [1]);
    assert_eq!(at(&local, Class::SoftFunds, 0, first()), None);
}

#[test]
fn each_preset_keeps_the_schedule_that_is_documented() {
    let of = |name: &str| {
        let preset = Preset::of(name).unwrap();
        schedule(&korea(Dunning { ladder: preset.ladder(), give_up: preset.give_up(), ..Dunning::default() }), Class::SoftFunds)
    };
    assert_eq!(of("1-3-5-7"), [1, 3, 5, 7]);
    assert_eq!(of("3-5-7"), [3, 8, 15]);
    assert_eq!(of("2-5-7-7"), [2, 7, 14, 21]);
    assert_eq!(of("8-in-14-days").len() + 1, 8, "eight tries, the first one included");
    assert!(of("8-in-14-days").iter().all(|day| *day < 14));
    for preset in PRESETS {
        assert!(preset.days.len() < usize::from(MOST_TRIES), "{}", preset.name);
        assert!(preset.days.iter().all(|day| *day < preset.give_up_days), "{}", preset.name);
    }
}

#[test]
fn a_class_with_a_ladder_of_its_own_takes_all_of_it() {
    let classes = BTreeMap::from([(Class::Unknown, Ladder::After(vec![days(2), days(4)]))]);
    let local = korea(Dunning { classes, ..Dunning::default() });
    assert_eq!(schedule(&local, Class::Unknown), [2, 4]);
    assert_eq!(schedule(&local, Class::Ambiguous), [1]);
}

#[test]
fn a_retry_starts_within_its_hours() {
    let local = Local::default();
    for (declined, retried) in [
        ("2026-12-01T01:00:00Z", "2026-12-02T01:00:00Z"),
        // 18:00 is outside: 09:00 on the day after
        ("2026-12-01T09:00:00Z", "2026-12-03T00:00:00Z"),
        ("2026-12-01T08:59:59Z", "2026-12-02T08:59:59Z"),
        // 03:00 waits for 09:00
        ("2026-12-01T18:00:00Z", "2026-12-03T00:00:00Z"),
    ] {
        let first_at: Timestamp = declined.parse().unwrap();
        let next = local.next_try(&Declined { class: Class::SoftFunds, rung: 1, first_at, now: first_at, seed: 0 });
        assert_eq!(next.unwrap().to_string(), retried, "{declined}");
    }
}

#[test]
fn a_retry_moves_to_a_payday_and_from_there_to_a_banking_day() {
    let preferred = |days: &[&str]| days.iter().map(|day| day.parse().unwrap()).collect::<Vec<BillingDay>>();
    let local = korea(Dunning { preferred_days: preferred(&["10", "15", "20", "25", "last"]), ..Dunning::default() });
    let on = |rung, now| at(&local, Class::SoftFunds, rung, now).map(|at| local.zone.to_datetime(at).date());
    // 2 December: the 10th is a Thursday
    assert_eq!(on(1, first()), Some(date(2026, 12, 10)));
    // and the rest of the ladder falls on the same day or follows a day later, on the 15th: 14 days are not over
    assert_eq!(on(2, after(9 * 24)), Some(date(2026, 12, 15)));
    // the 20th is a Sunday and beyond the give-up age: then the ladder's own day, if it still comes in time
    assert_eq!(on(3, after(14 * 24)), None);
    let weekend = korea(Dunning { preferred_days: preferred(&["5"]), ..Dunning::default() });
    let next = at(&weekend, Class::SoftFunds, 1, first()).unwrap();
    assert_eq!(weekend.zone.to_datetime(next).date(), date(2026, 12, 7), "the 5th is a Saturday");
}

#[test]
fn no_try_comes_after_the_give_up_age() {
    let local = korea(Dunning { give_up: days(4), ..Dunning::default() });
    assert_eq!(schedule(&local, Class::SoftFunds), [1, 3]);
    assert_eq!(local.give_up_at(first()), after(96));
}

#[test]
fn an_exponential_ladder_doubles_up_to_its_bound() {
    let hours = SignedDuration::from_hours;
    let ladder = |jitter| Ladder::Exponential { first: hours(6), factor: 2000, most: hours(72), tries: 5, jitter };
    let plain: Vec<i64> = (0..6).filter_map(|step| ladder(0).offset(step, 1)).map(|offset| offset.as_hours()).collect();
    assert_eq!(plain, [6, 18, 42, 90, 162]);
    let jittered = |seed| (0..5).filter_map(|step| ladder(200).offset(step, seed)).collect::<Vec<_>>();
    assert_eq!(jittered(1), jittered(1), "the same for one charge");
    assert_ne!(jittered(1), jittered(2));
}

#[test]
fn an_outage_waits_ten_minutes_and_then_twice_as_long_each_time() {
    for seed in [0, 1, seed("rb2kszxgvi2za4qxdk4pph4h33mf"), u64::MAX] {
        let waits: Vec<i64> = (1..=6).map_while(|count| transient_wait(count, seed)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits.len() + 1, MOST_TRANSIENT, "the sixth one joins the ladder");
        for (wait, minutes) in waits.iter().zip([10, 20, 40, 80, 160]) {
            assert!((minutes * 48..=minutes * 72).contains(wait), "{wait} s for {minutes} min");
        }
    }
    assert_eq!(transient_wait(0, 1), None);
}

fn one(hours: i64, own: bool, end: KeyEnd) -> KeyTry {
    KeyTry { at: after(hours), own, end }
}

const FUNDS: KeyEnd = KeyEnd::Declined(Class::SoftFunds);

#[test]
fn the_eleventh_declined_try_of_a_key_waits_until_the_first_is_thirty_days_old() {
    let tries: Vec<KeyTry> = (0..10).map(|day| one(day * 24, false, FUNDS)).collect();
    assert_eq!(key_may_be_asked(&tries[1..], after(20 * 24)), Ok(()));
    assert_eq!(key_may_be_asked(&tries, after(20 * 24)), Err((KeyStop::Month, after(30 * 24))));
    assert_eq!(key_may_be_asked(&tries, after(30 * 24)), Ok(()));
    // one that has not ended yet may still be declined
    let mut open = tries.clone();
    open[9].end = KeyEnd::Open;
    assert!(key_may_be_asked(&open, after(20 * 24)).is_err());
    open[9].end = KeyEnd::Paid;
    assert!(key_may_be_asked(&open, after(20 * 24)).is_ok());
}

#[test]
fn a_key_is_asked_once_a_day_for_one_charge() {
    assert_eq!(key_may_be_asked(&[one(0, true, FUNDS)], after(23)), Err((KeyStop::Day, after(24))));
    assert_eq!(key_may_be_asked(&[one(0, true, FUNDS)], after(24)), Ok(()));
    assert_eq!(key_may_be_asked(&[one(0, false, FUNDS)], after(1)), Ok(()), "for another charge it may");
}

#[test]
fn outages_stop_a_key_after_six_a_day() {
    let tries: Vec<KeyTry> = (0..6).map(|hour| one(hour, hour % 2 == 0, KeyEnd::Transient)).collect();
    assert_eq!(key_may_be_asked(&tries, after(10)), Err((KeyStop::Transient, after(24))));
    assert_eq!(key_may_be_asked(&tries[..5], after(10)), Ok(()));
}

#[test]
fn two_charges_to_one_key_are_spaced() {
    let now = first() + SignedDuration::from_mins(9);
    let until = first() + KEY_SPACING;
    assert_eq!(key_may_be_asked(&[one(0, false, KeyEnd::Paid)], now), Err((KeyStop::Spacing, until)));
    assert_eq!(key_may_be_asked(&[one(0, false, KeyEnd::Paid)], until), Ok(()));
}

#[test]
fn a_hard_decline_stops_the_other_charges_of_the_key_until_it_pays_again() {
    let hard = KeyEnd::Declined(Class::HardCard);
    assert!(matches!(key_may_be_asked(&[one(0, false, hard)], after(100)), Err((KeyStop::Refused, _))));
    assert_eq!(key_may_be_asked(&[one(0, true, hard)], after(100)), Ok(()), "its own charge waits by itself");
    let paid = [one(0, false, hard), one(50, false, KeyEnd::Paid)];
    assert_eq!(key_may_be_asked(&paid, after(100)), Ok(()));
}

proptest! {
    /// Whatever asks, whenever, and whatever comes of it: no cap is exceeded, and no stop lasts beyond its window.
    #[test]
    fn no_history_exceeds_a_cap(moves in prop::collection::vec((0i64..2000, 0u8..4, 0u8..6), 1..300)) {
        let mut tries: Vec<(u8, KeyTry)> = Vec::new();
        let mut minute = 0;
        for (wait, charge, end) in moves {
            minute += wait;
            let now = first() + SignedDuration::from_mins(minute);
            let seen: Vec<KeyTry> = tries.iter().map(|(of, one)| KeyTry { own: *of == charge, ..*one }).collect();
            match key_may_be_asked(&seen, now) {
                Err((_, until)) => prop_assert!(until > now && until.duration_since(now) <= KEY_WINDOW),
                Ok(()) => {
                    let end = match end {
                        0 => KeyEnd::Paid,
                        1 => KeyEnd::Transient,
                        2 => KeyEnd::Open,
                        _ => FUNDS,
                    };
                    tries.push((charge, KeyTry { at: now, own: false, end }));
                }
            }
        }
        let declined: Vec<_> = tries.iter().filter(|(_, one)| matches!(one.end, KeyEnd::Declined(_) | KeyEnd::Open)).collect();
        for window in declined.windows(MOST_PER_KEY + 1) {
            prop_assert!(window[MOST_PER_KEY].1.at.duration_since(window[0].1.at) >= KEY_WINDOW);
        }
        let outages: Vec<_> = tries.iter().filter(|(_, one)| one.end == KeyEnd::Transient).collect();
        for window in outages.windows(MOST_TRANSIENT + 1) {
            prop_assert!(window[MOST_TRANSIENT].1.at.duration_since(window[0].1.at) >= DAY);
        }
        for charge in 0..4 {
            let own: Vec<_> = tries.iter().filter(|(of, one)| *of == charge && one.end == FUNDS).collect();
            for pair in own.windows(2) {
                prop_assert!(pair[1].1.at.duration_since(pair[0].1.at) >= DAY);
            }
        }
    }

    /// Whatever the ladder: the next try is a day away at least, in its hours, and before the charge is given up.
    #[test]
    fn every_try_keeps_its_day_its_hours_and_its_end(
        offsets in prop::collection::vec(0i64..500, 1..12),
        rung in 1u8..12,
        late in 0i64..400,
        from in 0u16..24,
        paydays in prop::collection::vec(1i8..=31, 0..4),
    ) {
        let paydays = paydays.iter().map(|day| day.to_string().parse().unwrap()).collect();
        let hours = Hours::between(from, from + 1);
        let ladder = Ladder::After(offsets.iter().map(|hours| SignedDuration::from_hours(*hours)).collect());
        let local = korea(Dunning { ladder, hours, preferred_days: paydays, ..Dunning::default() });
        let now = after(late);
        if let Some(next) = at(&local, Class::SoftFunds, rung, now) {
            prop_assert!(next.duration_since(now) >= DAY);
            prop_assert!(next <= local.give_up_at(first()));
            let hour = local.zone.to_datetime(next).hour();
            prop_assert_eq!(u16::try_from(hour), Ok(from));
        }
    }
}
