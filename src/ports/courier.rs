//! Carries events to the operator's own systems.

use async_trait::async_trait;

use super::store::Delivery;

/// What a receiver made of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// A 2xx answer.
    Accepted,
    /// Anything else; tried again later. The text holds no secret.
    Failed(String),
    /// No endpoint of that name is configured any more.
    UnknownEndpoint,
}

#[async_trait]
pub trait Courier: Send + Sync + 'static {
    async fn deliver(&self, delivery: &Delivery) -> Handover;
}
