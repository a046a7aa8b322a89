//! F4: HTTP faces. For now the receiver that the demo and tests listen with; health, metrics and webhooks in come later.

pub mod receiver;
