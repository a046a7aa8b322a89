//! What one run of the model allows: bounds of the world, faults, and at most one shortcut around the protocol.

use rebilld::domain::charge::IdMode;

/// A way around the protocol that somebody might take. Each has to be refuted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// After a timeout, a new id.
    NewIdAfterTimeout,
    /// After taking over a claim, a new attempt without a look-up.
    NewAttemptAfterTakeover,
    /// The same id sent again at once, and "already paid" read as a failure.
    AlreadyPaidIsFailure,
    /// "Not found" believed at once, and then a new id.
    AbsentThenNewId,
    /// "Not found" believed at once, and then the same id again.
    AbsentThenSameId,
    /// Q is measured to the judging of a look-up instead of to its beginning, and one look-up is enough.
    QuietWhenDeciding,
    /// The same, but R3's second look-up is kept. Not refuted: the second one begins late enough.
    QuietWhenDecidingTwice,
    /// R3 is left out: one look-up is enough. Not refuted: R2 alone carries it, as long as Q is long enough.
    OneLookUp,
    /// Only the newest record of an id is read.
    NewestOnly,
    /// W2 writes its send without asking for the claim, or for what the charge has come to meanwhile.
    NoFence,
    /// A second send of an attempt while the first is open, and the decline of one ends the attempt.
    DeclineEndsAttempt,
    /// Nothing is looked up before a send.
    NoLookBeforeSend,
}

/// How an old backup may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    Never,
    /// At any moment, and it is found out: no send for Q.
    Noticed,
    /// Nobody finds out, but nothing was under way at the gateway.
    Idle,
    /// Nobody finds out, at any moment.
    Unnoticed,
}

/// The world of one run. A tick is a quarter of an hour; what happens within one happens in any order.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub name: &'static str,
    pub mode: IdMode,
    /// Ticks that a process may be frozen between W2 and the write.
    pub stall: u8,
    /// Ticks that a request may take until the gateway processes it.
    pub delay: u8,
    /// Ticks until a look-up shows what was processed.
    pub lag: u8,
    /// Q, in ticks.
    pub quiet: u8,
    /// Ticks that a look-up may take from its beginning to its judging.
    pub look: u8,
    /// Cards that are refused, in a whole history.
    pub declines: u8,
    /// A refused copy of a paid request leaves a failed record of its own.
    pub copies: bool,
    /// A payment may be pending (`ready`) before it is paid or has failed.
    pub pending: bool,
    /// What the gateway answers may be a failure whose text says nothing.
    pub ambiguous: bool,
    /// What the gateway answers may be a code with a text about the card, whether the card was charged or not.
    pub unclear: bool,
    pub restore: Restore,
    pub shortcut: Option<Shortcut>,
}

impl Config {
    /// The shortest world in which Q, as small as the product allows it plus one tick, has something to outlast.
    pub const fn safe(name: &'static str, mode: IdMode) -> Self {
        Self {
            name,
            mode,
            stall: 1,
            delay: 1,
            lag: 1,
            quiet: 4,
            look: 1,
            declines: 1,
            copies: false,
            pending: false,
            ambiguous: false,
            unclear: false,
            restore: Restore::Never,
            shortcut: None,
        }
    }

    /// Stall, delay, visibility lag and Q, in ticks.
    pub const fn timed(self, stall: u8, delay: u8, lag: u8, quiet: u8) -> Self {
        Self { stall, delay, lag, quiet, ..self }
    }

    pub const fn called(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub const fn with(self, shortcut: Shortcut) -> Self {
        Self { shortcut: Some(shortcut), ..self }
    }

    pub fn takes(&self, shortcut: Shortcut) -> bool {
        self.shortcut == Some(shortcut)
    }
}
