//! F5: the composition root: puts the parts together, starts them and stops them.

pub mod ahead;
pub mod alarms;
mod assemble;
mod channels;
pub mod chores;
pub mod demo;
pub mod doctor;
mod errors;
pub mod expect;
mod guard;
mod helpers;
mod inbox;
mod kill_files;
mod notify;
mod operate;
mod receivers;
mod rehearse;
mod reload;
mod run;
pub mod shadow;
pub mod simulate;
mod switch;
pub mod takeover;

pub use assemble::{Assembled, assemble, open_options, random};
pub use errors::AppError;
pub use guard::remember;
pub use kill_files::KillFiles;
pub use operate::{Audited, audit, reconcile, release_hold, rule};
pub use receivers::problems as receiver_problems;
pub use rehearse::{DryRun, dry_run};
pub use run::run;

#[cfg(test)]
mod tests;
