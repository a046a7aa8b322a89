//! How far a long command has come: on a terminal's standard error, and nowhere else.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::context::Context;

/// A bar over so many somethings; hidden without a terminal and with `--quiet`.
pub struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
}

impl Progress {
    pub fn start(context: &Context, what: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        // a bar over nothing looks as if all were done: it is shown once it is known how much there is
        bar.set_draw_target(ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{msg}  {bar:32}  {human_pos} of {human_len}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        Self { bar, on_terminal: !context.quiet && std::io::stderr().is_terminal() }
    }

    pub fn at(&self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        if self.on_terminal && of > 0 && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
