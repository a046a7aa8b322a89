//! What integration tests share. A test file takes it in with `mod support;`.

pub mod postgres;
