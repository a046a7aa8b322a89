//! The worlds that are searched, and the lines of the table.

use rebilld::domain::charge::IdMode::{self, PerAttempt, PerPeriod};

use super::config::{Config, Restore, Shortcut};
use super::state::{Record, State, Status};

/// Stall, delay, lag, and the shortest Q that outlasts them. Each is refuted with one tick less.
pub const TIMINGS: [(u8, u8, u8, u8); 5] = [(1, 1, 1, 4), (2, 1, 0, 4), (0, 2, 1, 4), (1, 0, 2, 4), (1, 2, 1, 5)];

/// Every kind of trouble by itself, in both id modes.
pub fn safe(large: bool) -> Vec<Config> {
    let mut worlds = Vec::new();
    for mode in [PerAttempt, PerPeriod] {
        let base = Config::safe("crashes, stalls, losses, delays", mode);
        // a backup of any moment that comes back at any other squares the states: little time suffices
        let backup = Config { look: 0, ..base.timed(0, 1, 0, 3) };
        worlds.extend([
            Config { declines: 2, ..base }.called("the same, given up after two declines"),
            Config { copies: true, ..base }.called("refused copies leave records"),
            Config { pending: true, ..base }.called("pending payments"),
            Config { ambiguous: true, ..base }.called("failures that say nothing"),
            Config { unclear: true, ..base }.called("codes that may hide a payment"),
            Config { restore: Restore::Noticed, ..backup }.called("a backup comes back, and is found out"),
        ]);
        // per period the gateway guards the rest: in the larger size only
        if mode == PerAttempt || large {
            worlds.push(Config { restore: Restore::Idle, ..backup }.called("a backup comes back, nothing under way"));
            worlds.extend(TIMINGS.map(|(stall, delay, lag, quiet)| base.timed(stall, delay, lag, quiet)));
        }
        if large {
            worlds.extend(large_worlds(mode));
        }
    }
    worlds
}

/// Rules that another rule covers: without one of them everything still holds.
pub fn layers() -> [Config; 2] {
    let base = Config { unclear: true, ..Config::safe("", PerAttempt) };
    [
        base.with(Shortcut::QuietWhenDecidingTwice).called("Q when deciding, R3 kept"),
        base.with(Shortcut::OneLookUp).called("one look-up instead of two, R2 kept"),
    ]
}

/// Kinds of trouble together, for longer.
fn large_worlds(mode: IdMode) -> [Config; 6] {
    let base = Config::safe("", mode);
    let twice = Config { declines: 2, ..base };
    let slow = twice.timed(2, 2, 2, 7);
    [
        slow.called("large: slow everywhere"),
        Config { look: 2, pending: true, ambiguous: true, ..twice }.called("large: pending, ambiguous, slow look-ups"),
        Config { copies: true, unclear: true, ..slow }.called("large: slow, copies, unclear codes"),
        Config { restore: Restore::Noticed, ..base }.called("large: a backup that is found out"),
        Config { restore: Restore::Idle, ..base }.called("large: a backup, nothing under way"),
        Config { restore: Restore::Noticed, unclear: true, ..base }.called("large: a backup, unclear codes"),
    ]
}

/// docs/protocol.md, Shortcuts not to take: each with the smallest world that refutes it, and what it costs.
pub fn shortcuts() -> [(Config, &'static str); 10] {
    use super::check::{CLOSED, ONE_PAYMENT, SETTLES};
    let base = Config::safe("", PerAttempt);
    let copies = Config { copies: true, ..base };
    let unclear = Config { unclear: true, ..base };
    let backup = Config { restore: Restore::Idle, ..base };
    [
        (base.with(Shortcut::NewIdAfterTimeout).called("after a timeout, a new id"), ONE_PAYMENT),
        (base.with(Shortcut::NewAttemptAfterTakeover).called("after a takeover, a new attempt"), ONE_PAYMENT),
        (base.with(Shortcut::AlreadyPaidIsFailure).called("\"already paid\" read as a failure"), ONE_PAYMENT),
        (base.with(Shortcut::AbsentThenNewId).called("\"not found\" believed, new id"), ONE_PAYMENT),
        (base.with(Shortcut::AbsentThenSameId).called("\"not found\" believed, same id"), ONE_PAYMENT),
        (unclear.with(Shortcut::QuietWhenDeciding).called("Q tested when deciding, one look-up"), CLOSED),
        (copies.with(Shortcut::NewestOnly).called("only the newest record read"), SETTLES),
        (base.with(Shortcut::NoFence).called("sends that do not need the claim"), ONE_PAYMENT),
        (base.with(Shortcut::DeclineEndsAttempt).called("a decline ends an attempt with two sends"), ONE_PAYMENT),
        (backup.with(Shortcut::NoLookBeforeSend).called("a backup, and no look-up before sending"), ONE_PAYMENT),
    ]
}

/// One line: the world, what was searched, what came of it.
pub fn line(config: &Config, states: usize, depth: usize, result: &str) -> String {
    let Config { name, mode, stall, delay, lag, quiet, .. } = config;
    format!("{name:<44} {:<12} {stall}+{delay}+{lag} < {quiet:<2} {states:>10} {depth:>5}  {result}", mode.name())
}

pub const HEAD: &str = "world                                        ids          s+d+v   Q     states depth  result";

/// A state in one line, for a history.
pub fn in_words(state: &State) -> String {
    let row = &state.row;
    let live = row.live.map_or("no attempt".to_owned(), |live| {
        format!("attempt {:02}{}", live.id, if live.open.is_some() { " with an open send" } else { "" })
    });
    let hidden = |record: &Record| if record.hidden.is_some() { " (hidden)" } else { "" };
    let status = |record: &Record| match record.status {
        Status::Failed => "failed",
        Status::Paid => "PAID",
        Status::Ready => "ready",
    };
    let ledger: Vec<_> = state.ledger.iter().map(|r| format!("{:02} {}{}", r.id, status(r), hidden(r))).collect();
    let wire: Vec<_> = state.wire.iter().map(|post| format!("{:02}", post.id)).collect();
    format!("{}, {live} | wire [{}] | ledger [{}]", row.state.name(), wire.join(", "), ledger.join(", "))
}
