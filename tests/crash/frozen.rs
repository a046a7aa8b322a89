//! A daemon that stands still for longer than its claims last, while others take over what it had claimed, and then goes on as if
//! nothing had been.
//!
//! A claim lasts two minutes, by a constant: what a look-up concludes leans on it. So its end is moved, not slept for: the claims'
//! rows get another end, which is all that a claim is, and the frozen daemon can know of it no more than of time that passes.
//! `REBILLD_FREEZE=whole` sleeps for it all the same, once a sitting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::kills::PATIENCE;
use super::lives::World;
use crate::processes::{Daemon, until, within};
use crate::tally::setting;

/// Longer than a claim.
const WHOLE: Duration = Duration::from_secs(125);
/// Longer than the gate is open after a claim.
const BEYOND_THE_GATE: Duration = Duration::from_secs(11);

/// Whether a daemon was frozen for the whole length of a claim.
static SLEPT: AtomicBool = AtomicBool::new(false);

/// The token of each charge that is claimed.
type Claims = BTreeMap<i64, String>;

impl World {
    pub async fn freeze(&mut self, daemon: &Daemon) {
        // in the middle of something: there are claims, and some of them are its own with all likelihood
        let before = until("something is claimed", PATIENCE, async || {
            daemon.freeze();
            let claims = self.claims().await;
            if claims.is_empty() {
                daemon.thaw();
                self.insert(super::lives::MORE).await;
            }
            (!claims.is_empty()).then_some(claims)
        })
        .await;
        let whole = setting("REBILLD_FREEZE").is_some_and(|how| how == "whole") && !SLEPT.swap(true, Ordering::SeqCst);
        if whole {
            tokio::time::sleep(WHOLE).await;
        } else {
            // one that holds a row lock holds it: others must not wait for it for ever, and neither must this
            let ended = "SELECT id FROM charges WHERE claim_token IS NOT NULL FOR UPDATE SKIP LOCKED";
            self.home.sql(&format!("UPDATE charges SET claim_until = now() - INTERVAL '1 second' WHERE id IN ({ended})")).await;
        }
        let others_have_it = async || {
            let now = self.claims().await;
            before.iter().any(|(charge, token)| now.get(charge) != Some(token)).then_some(())
        };
        until("others take over what was claimed", PATIENCE, others_have_it).await;
        // now and then until its gate has closed too
        if before.len() % 3 == 0 && !whole {
            within(BEYOND_THE_GATE, async || None::<()>).await;
        }
        daemon.thaw();
    }

    async fn claims(&self) -> Claims {
        let rows = self.home.sql("SELECT id, claim_token FROM charges WHERE claim_token IS NOT NULL").await;
        rows.iter().map(|row| (row.int("id").expect("an id"), row.text("claim_token").expect("a token"))).collect()
    }
}
