//! The calendar against oracles that share no code with it: a naive one that walks day by day and minute by minute,
//! Python's dateutil and zoneinfo, and what other billing systems have published.

mod calendar {
    pub mod oracle;

    mod engine;
    mod instants;
    mod periods;
    mod published;
}
