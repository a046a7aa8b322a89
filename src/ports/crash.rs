//! Points at which a build for tests kills itself, so that what is left is what a crash exactly there leaves: no destructor runs,
//! nothing is flushed, no connection is closed by hand. A release build has none of this.
//!
//! A point is called where something has just become durable, is about to, or has just reached or left another machine. Most of
//! them arise in one place: each statement that is run in a transaction, and each COMMIT, is a point by the statement's name.

/// `POINT@N`: the process kills itself when it comes to the point for the Nth time.
pub const KILL_AT: &str = "KILL_REBILLD_AT";
/// A file to which each point is added as it is passed, one a line.
pub const TELL: &str = "TELL_REBILLD_POINTS";

/// Names a helper of the daemon, which panics as soon as it runs.
pub const BREAK: &str = "BREAK_REBILLD_HELPER";
/// Names a file: while it is there the dispatch loop stands still, and everything else of the process goes on.
pub const STALL: &str = "STALL_REBILLD_LOOP";

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    struct Plan {
        point: String,
        hits: u64,
        passed: AtomicU64,
        told: Option<File>,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();
    static BROKEN: OnceLock<String> = OnceLock::new();
    static STALL: OnceLock<PathBuf> = OnceLock::new();

    pub fn arm_stall(file: Option<&str>) {
        if let Some(file) = file {
            let _ = STALL.set(file.into());
        }
    }

    pub async fn stall() {
        while STALL.get().is_some_and(|file| file.exists()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn arm_helper(name: Option<&str>) {
        if let Some(name) = name {
            let _ = BROKEN.set(name.to_owned());
        }
    }

    pub fn helper(name: &str) {
        assert!(BROKEN.get().is_none_or(|broken| broken != name), "the helper {name} is to break");
    }

    /// Arms this process. What cannot be read arms nothing and is an error.
    pub fn arm(at: Option<&str>, tell: Option<&str>) -> Result<(), String> {
        if at.is_none() && tell.is_none() {
            return Ok(());
        }
        let (point, hits) = match at {
            Some(at) => at.rsplit_once('@').ok_or_else(|| format!("`{at}` is not POINT@N"))?,
            None => ("", "1"),
        };
        let hits = hits.parse().map_err(|_| format!("`{hits}` is no number of times"))?;
        let open = |path: &str| File::options().create(true).append(true).open(path).map_err(|why| format!("{path}: {why}"));
        let told = tell.map(open).transpose()?;
        let plan = Plan { point: point.to_owned(), hits, passed: AtomicU64::new(0), told };
        PLAN.set(plan).map_err(|_| "it is armed already".to_owned())
    }

    pub fn point(what: &str, of: &str) {
        let Some(plan) = PLAN.get() else { return };
        if let Some(mut told) = plan.told.as_ref() {
            // one write is one line, whichever thread it is of
            let _ = told.write_all(format!("{what}{of}\n").as_bytes());
        }
        let is_it = plan.point.strip_prefix(what).is_some_and(|rest| rest == of);
        if is_it && plan.passed.fetch_add(1, Ordering::AcqRel) + 1 == plan.hits {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                // nothing runs after it, on any thread
                std::thread::park();
            }
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::arm;

/// A release build cannot be armed.
#[cfg(not(debug_assertions))]
pub fn arm(_at: Option<&str>, _tell: Option<&str>) -> Result<(), String> {
    Ok(())
}

/// From now on the helper of this name breaks. A release build cannot be armed.
pub fn arm_helper(name: Option<&str>) {
    #[cfg(debug_assertions)]
    armed::arm_helper(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// From now on this file stops the dispatch loop. A release build cannot be armed.
pub fn arm_stall(file: Option<&str>) {
    #[cfg(debug_assertions)]
    armed::arm_stall(file);
    #[cfg(not(debug_assertions))]
    let _ = file;
}

/// The dispatch loop turns: here it stands still for as long as it is told to.
#[inline]
pub async fn stall() {
    #[cfg(debug_assertions)]
    armed::stall().await;
}

/// A helper of the daemon begins: here it panics if it is the one that is to break.
#[inline]
pub fn helper(name: &str) {
    #[cfg(debug_assertions)]
    armed::helper(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The point that is called `what` and then `of`: the process may end here.
#[inline]
pub fn point(what: &str, of: &str) {
    #[cfg(debug_assertions)]
    armed::point(what, of);
    #[cfg(not(debug_assertions))]
    let _ = (what, of);
}

/// What a transaction has run last; its COMMIT is called after it.
#[derive(Debug, Default)]
pub struct Trail {
    #[cfg(debug_assertions)]
    last: Option<&'static str>,
}

impl Trail {
    /// A statement has been run, and is not committed.
    #[inline]
    pub fn ran(&mut self, name: &'static str) {
        #[cfg(debug_assertions)]
        {
            self.last = Some(name);
        }
        point("ran: ", name);
    }

    /// COMMIT was made.
    #[inline]
    pub fn committed(&self) {
        #[cfg(debug_assertions)]
        point("committed: ", self.last.unwrap_or("nothing"));
    }
}
