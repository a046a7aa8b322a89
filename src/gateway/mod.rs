//! F3: the gateway: PortOne's client, and a sandbox that answers as PortOne does.

pub mod portone;
pub mod sandbox;
