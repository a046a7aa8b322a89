//! rebilld: a subscription billing scheduler daemon for operators who charge cards in Korea through PortOne.
//!
//! Floors, from the ground up; imports go down only (ARCHITECTURE.md): [`domain`], [`ports`], `engine`, adapters
//! (`store`, `gateway`, `courier`, [`time`]), faces (`http`, `cli`), `config` and `app`.

pub mod app;
pub mod cli;
pub mod config;
pub mod courier;
pub mod domain;
pub mod engine;
pub mod gateway;
pub mod http;
pub mod ports;
pub mod store;
pub mod time;
