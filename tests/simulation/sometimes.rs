//! What a campaign has to reach: every row of the table of answers and every rule of doubt, often enough to mean something.

use crate::tally::Counts;

/// As often as each branch at least, in a million subscription-months.
const OFTEN: u64 = 100;

/// In proportion, in a smaller campaign: five times in what all tests run, so that no branch goes missing unseen.
fn often(months: u64) -> u64 {
    (OFTEN * months / 1_000_000).min(OFTEN)
}

/// Each with how docs/protocol.md calls it.
pub const BRANCHES: &[&str] = &[
    // what an answer means
    "answer: paid",
    "answer: paid, another amount",
    "answer: paid, in another currency",
    "answer: paid, by another card",
    "W3: the payment belongs to another attempt",
    "answer: declined, HARD_CARD",
    "answer: declined, SOFT_FUNDS",
    "answer: declined, SOFT_CONTACT",
    "answer: declined, TRANSIENT",
    "answer: declined, UNKNOWN",
    "answer: failed, with an ambiguous text",
    "answer: ready",
    "answer: cancelled",
    "answer: a status that is not known",
    "answer: refused, the card is not known",
    "answer: a code, about the card or the money on it",
    "answer: a code, about the merchant",
    "answer: a code, about something else",
    "answer: another merchant_uid",
    "answer: malformed",
    "answer: cut off",
    "answer: too large",
    "answer: none, too slow",
    "answer: none, reset",
    "answer: another 3xx or 4xx",
    "answer: 429 or 5xx",
    "answer: 401",
    "answer: none, nothing left",
    // R1 to R8
    "R1 the answer says paid",
    "R1 a look-up shows it paid",
    "R2 too early to believe that it is not paid",
    "R3 not paid, seen once",
    "R3 not paid, seen twice: an operator may rule",
    "R4 only failed records",
    "R4 lost: the same id again",
    "R4 lost three times",
    "R4 no record, and the text is about the card",
    "R4 refused without a record",
    "R5 the look-up failed",
    "R6 swept: still closed",
    "R6 the look-up failed",
    "R6 a late payment overrides",
    "R7 the next id a day later",
    "R8 an operator ruled: paid",
    "R8 an operator ruled: unpaid",
    "R8 an operator ruled: resend",
    "R8 an operator ruled: void",
    "R8 refused: not quiet",
    "R8 refused: the gateway shows more",
    "R8 refused: no such payment",
    "R8 refused: final",
    "R8 refused: in doubt",
    "R8 refused: not in review",
    "R8 refused: too soon",
    "R8 not ruled: no look-up",
    // the rest of what decides
    "E1 the id has been used",
    "E1 the look-up failed: not sent",
    "a send was left open",
    "refused, and a look-up shows no record",
    "ready is never unpaid",
    "this card was refused for good, for another charge",
    "this card has been declined as often as it may be in 30 days",
    "another charge to this card was sent just now",
    "no new card came in time",
    "W3: the fence is lost",
    "charge.doubt_overdue",
    // what each verdict looked at (S2: a few seeds alone)
    "checked: I1",
    "checked: I2",
    "checked: I3",
    "checked: I4",
    "checked: I5",
    "checked: I6",
    "checked: I7",
    "checked: I8",
    "checked: I9",
    "checked: I10",
    "checked: I11",
    "checked: I12",
    "checked: S1",
    "checked: S3",
    "checked: S4",
    "checked: S5",
    "checked: S6",
    // what befalls it
    "POST: invisible at first, and its answer lost",
    "fault: a look-up got a page",
    "fault: a look-up got a page, as a 404",
    "fault: a look-up was cut off",
    "fault: a look-up was refused",
    "fault: a look-up said nothing",
    "fault: a look-up was about another payment",
    "fault: a look-up was answered with 429 or 503",
    "fault: a look-up in a storm",
    "fault: a look-up while they are down",
    "fault: crash",
    "fault: frozen",
    "fault: frozen beyond a claim",
    "fault: the database's clock jumped",
    "fault: commit lost",
    "fault: acknowledgement of a commit lost",
    "fault: the state directory is full",
    "calendar: due in an hour that is not there",
    "calendar: due in an hour that is there twice",
];

/// What is short of it, by name.
pub fn check(counts: &Counts, months: u64) {
    let often = often(months);
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    let short: Vec<String> =
        BRANCHES.iter().filter(|name| of(name) < often).map(|name| format!("{name}: {} of {often}", of(name))).collect();
    assert!(short.is_empty(), "branches that were hardly reached:\n  {}", short.join("\n  "));
}

/// However small a campaign is: verdicts that had looked at nothing would hold whatever happens.
pub fn looked_at(counts: &Counts) {
    for name in ["I1", "I2", "I4", "I5", "I6", "I7", "I8", "I10", "I11", "S1", "S3", "S4"] {
        let of = counts.get(&format!("checked: {name}")).copied().unwrap_or(0);
        assert!(of > 0, "{name} had nothing to look at");
    }
}

#[test]
fn a_branch_that_is_hardly_reached_is_named() {
    let mut counts: Counts = BRANCHES.iter().map(|name| ((*name).to_owned(), OFTEN)).collect();
    check(&counts, 2_000_000);
    counts.insert("answer: cut off".to_owned(), OFTEN - 1);
    check(&counts, 990_000);
    let told = std::panic::catch_unwind(|| check(&counts, 1_000_000)).unwrap_err();
    assert!(told.downcast_ref::<String>().unwrap().contains("answer: cut off: 99 of 100"));
}
