//! How far a long command has come: on a terminal's standard error, and nowhere else.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::Context;

/// A bar over so many somethings; hidden without a terminal and with `--quiet`.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn start(context: &Context, what: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        let shown = !context.quiet && std::io::stderr().is_terminal();
        bar.set_draw_target(if shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() });
        let style = ProgressStyle::with_template("{msg}  {bar:32}  {human_pos} of {human_len}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        Self(bar)
    }

    pub fn at(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
