//! Guards of the charge protocol that a build for tests can take out, one at a time, so that the simulation shows what each of
//! them is for (tests/guards.rs). A release build asks nothing: every guard stands there.
//!
//! A guard is out for one thread and one call. No setting, no environment and no command reaches it.

/// What stands between a mishap and a customer who is charged wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// W2 and every "not paid" need the claim token.
    ClaimToken,
    /// E1: the gateway is asked for the ids of a charge before it is sent.
    FirstLook,
    /// R2 counts from where the look-up began, and not from where it is judged.
    QuietFromBegin,
    /// A payment is booked only with our id, amount and card.
    Identity,
    /// The gate turns away what was claimed too long ago.
    Gate,
    /// The kill switch, in the database and outside of it.
    KillSwitch,
}

#[cfg(debug_assertions)]
mod taken_out {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static OUT: Cell<&'static [Guard]> = const { Cell::new(&[]) };
    }

    pub fn stands(guard: Guard) -> bool {
        !OUT.get().contains(&guard)
    }

    /// Puts back what was there, however the call ends.
    struct Back(&'static [Guard]);

    impl Drop for Back {
        fn drop(&mut self) {
            OUT.set(self.0);
        }
    }

    /// Calls `what` on this thread without the guards.
    pub fn without<T>(guards: &'static [Guard], what: impl FnOnce() -> T) -> T {
        let _back = Back(OUT.replace(guards));
        what()
    }
}

#[cfg(debug_assertions)]
pub use taken_out::without;

/// Whether the guard is in its place. In a release build it always is.
#[inline]
pub fn stands(guard: Guard) -> bool {
    #[cfg(debug_assertions)]
    return taken_out::stands(guard);
    #[cfg(not(debug_assertions))]
    {
        let _ = guard;
        true
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_out_for_one_call_and_one_thread() {
        without(&[Guard::Gate], || {
            assert!(!stands(Guard::Gate));
            assert!(stands(Guard::Identity));
            assert!(std::thread::spawn(|| stands(Guard::Gate)).join().unwrap(), "another thread keeps it");
        });
        assert!(stands(Guard::Gate));
    }

    #[test]
    fn a_guard_is_back_after_a_panic() {
        let panicked = std::panic::catch_unwind(|| without(&[Guard::Gate], || panic!("on purpose")));
        assert!(panicked.is_err() && stands(Guard::Gate));
    }
}
