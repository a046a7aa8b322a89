//! The kill switch outside of the database: it works while the database does not, and for whoever has no access to it.

use async_trait::async_trait;

/// Asked before every send, at most a second before. Whatever cannot be told stops sends.
#[async_trait]
pub trait KillSwitch: Send + Sync + 'static {
    /// What stops the sends of an account, for people; `None`: nothing does.
    async fn stopped(&self, account: &str) -> Option<String>;
}

/// For engines that never charge anybody: simulations, and commands that only look.
#[derive(Debug, Clone, Copy)]
pub struct NoSwitch;

#[async_trait]
impl KillSwitch for NoSwitch {
    async fn stopped(&self, _account: &str) -> Option<String> {
        None
    }
}
