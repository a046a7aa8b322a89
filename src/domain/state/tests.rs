use super::*;

fn at(hours: i64) -> Timestamp {
    let start: Timestamp = "2026-12-01T01:00:00Z".parse().unwrap();
    start + SignedDuration::from_hours(hours)
}

fn calm() -> Facts {
    Facts {
        status: Status::Active,
        ended: false,
        trial_until: None,
        owed: Vec::new(),
        closed_unpaid: false,
        grace: SignedDuration::from_hours(24),
        just: None,
    }
}

fn owed() -> Owed {
    let (state, waiting) = (ChargeState::Due, Waiting::Retry);
    Owed { first_declined_at: at(0), restarted: false, state, waiting, next_at: Some(at(25)) }
}

fn state(facts: &Facts, now: Timestamp) -> SubscriptionState {
    let before = [None].into_iter().chain(SubscriptionState::ALL.map(Some));
    let found: Vec<SubscriptionState> = before.map(|before| follow(before, facts, now).state).collect();
    let first = found[0];
    assert!(found.iter().all(|other| *other == first), "what was told before changes nothing of what is");
    first
}

#[test]
fn the_status_wins_then_what_was_given_up_then_what_is_owed_then_the_trial() {
    use SubscriptionState::{Active, Cancelled, PastDue, Paused, Trialing, Unpaid};
    let all = Facts { trial_until: Some(at(100)), owed: vec![owed()], closed_unpaid: true, ended: true, ..calm() };
    let of = |facts: Facts| state(&facts, at(30));
    assert_eq!(of(Facts { status: Status::Cancelled, ..all.clone() }), Cancelled);
    assert_eq!(of(Facts { status: Status::Paused, ..all.clone() }), Paused);
    assert_eq!(of(all.clone()), Unpaid, "at its end, but still owing");
    assert_eq!(of(Facts { owed: Vec::new(), ..all.clone() }), Cancelled);
    assert_eq!(of(Facts { closed_unpaid: false, ended: false, ..all.clone() }), PastDue);
    assert_eq!(of(Facts { closed_unpaid: false, ended: false, owed: Vec::new(), ..all }), Trialing);
    assert_eq!(of(calm()), Active);
}

#[test]
fn the_grace_is_counted_from_the_first_decline_and_its_end_is_looked_at() {
    let facts = Facts { owed: vec![owed()], ..calm() };
    let within = follow(Some(SubscriptionState::Active), &facts, at(1));
    assert_eq!((within.state, within.reason, within.look_at), (SubscriptionState::Active, None, Some(at(24))));
    assert_eq!((within.next, within.next_at), (NextStep::Retry, Some(at(25))), "what comes next is known all the same");
    let over = follow(Some(SubscriptionState::Active), &facts, at(24));
    assert_eq!((over.state, over.reason), (SubscriptionState::PastDue, Some(Reason::GraceOver)));
    assert_eq!(over.look_at, Some(at(24) + LOOK_AGAIN));
    assert_eq!(follow(Some(SubscriptionState::PastDue), &facts, at(25)).look_at, None, "looked at again once");
    let restarted = Facts { owed: vec![Owed { restarted: true, ..owed() }], ..calm() };
    assert_eq!(state(&restarted, at(1)), SubscriptionState::PastDue, "given once");
}

#[test]
fn what_is_as_it_was_is_not_told() {
    for facts in [calm(), Facts { owed: vec![owed()], ..calm() }, Facts { status: Status::Paused, ..calm() }] {
        let first = follow(None, &facts, at(30));
        let again = follow(Some(first.state), &facts, at(31));
        assert_eq!((again.reason, again.event("main", "s", Some(first.state), at(31))), (None, None));
    }
    assert_eq!(follow(None, &calm(), at(30)).reason, None, "a new subscription that is simply active");
}

#[test]
fn what_is_soonest_of_several_charges_comes_next() {
    let waits = Owed { waiting: Waiting::Card, next_at: Some(at(300)), ..owed() };
    let facts = Facts { owed: vec![waits, owed()], grace: SignedDuration::ZERO, ..calm() };
    let followed = follow(None, &facts, at(1));
    assert_eq!((followed.next, followed.next_at, followed.reason), (NextStep::Retry, Some(at(25)), Some(Reason::Declined)));
    let asked = Owed { state: ChargeState::Doubt, waiting: Waiting::LookUp, ..owed() };
    assert_eq!(follow(None, &Facts { owed: vec![asked], ..calm() }, at(30)).next, NextStep::LookUp);
}

#[test]
fn names_are_where_their_variants_are() {
    assert_eq!(SubscriptionState::ALL.map(SubscriptionState::name), SubscriptionState::NAMES);
    assert_eq!(
        (Reason::TrialStarted.name(), Reason::GivenUp.name(), Reason::Ended.name()),
        ("trial_started", "given_up", "ended")
    );
    assert_eq!(
        (NextStep::TrialEnd.name(), NextStep::LookUp.name(), NextStep::Nothing.name()),
        ("trial_end", "look_up", "nothing")
    );
}
