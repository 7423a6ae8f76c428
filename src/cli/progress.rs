//! How far a long command has come, on standard error of a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that moves; nothing where nobody looks.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of `total` things that are `done`, if it is known how many there are.
    pub(super) fn of(done: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let form = match total {
            Some(_) => "{bar:40} {human_pos} of {human_len} {msg}, {per_sec}, {eta} left",
            None => "{spinner} {human_pos} {msg}, {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_message(done);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// `count` are done.
    pub(super) fn at(&self, count: usize) {
        self.0.set_position(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A line beside the bar, on a terminal or not.
    pub(super) fn aside(&self, line: &str) {
        use std::io::Write as _;
        // Where even this cannot be written, the count at the end still tells.
        self.0.suspend(|| drop(writeln!(std::io::stderr(), "{line}")));
    }

    /// It is over.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
