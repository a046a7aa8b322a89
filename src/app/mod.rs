//! F5: the composition root: puts the parts together, starts them and stops them.

mod assemble;
pub mod demo;
mod errors;
mod guard;
mod run;

pub use assemble::{Assembled, assemble};
pub use errors::AppError;
pub use run::{RunOptions, run};

#[cfg(test)]
mod tests;
