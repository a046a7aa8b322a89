//! The real binary, as an operator calls it: on SQLite, and what touches SQL on PostgreSQL too.

mod support;

mod cli {
    pub mod rig;
    pub mod wave;

    mod ahead;
    mod alarms;
    mod arm;
    mod brakes;
    mod calendar;
    mod charges;
    mod config;
    mod declines;
    mod desk;
    mod doctor;
    mod guards;
    mod import;
    mod incidents;
    mod init;
    mod journal;
    mod kubernetes;
    mod metrics;
    mod packages;
    mod plans;
    mod states;
    mod systemd;
    mod terms;
    mod webhooks;
}
