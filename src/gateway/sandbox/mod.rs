//! The sandbox gateway: PortOne V1 on loopback, with a ledger and faults.
