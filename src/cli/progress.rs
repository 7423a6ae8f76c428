//! How far a long command has come, on standard error of a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that moves; nothing where nobody looks.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of `total` things that are `done`, if it is known how many there are.
    pub(super) fn of(done: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        style(&bar, "{spinner} {human_pos} {msg}, {per_sec}");
        bar.set_message(done);
        bar.enable_steady_tick(Duration::from_millis(250));
        let progress = Self(bar);
        if let Some(total) = total {
            progress.expect(total);
        }
        progress
    }

    /// There are `total` of them.
    pub(super) fn expect(&self, total: u64) {
        style(&self.0, OF_TOTAL);
        self.0.set_length(total);
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

fn style(bar: &ProgressBar, form: &str) {
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
}

const OF_TOTAL: &str =
    "{bar:40} {percent:>3}% {human_pos} of {human_len} {msg}, {per_sec}, {eta} left";

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what is drawn.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_share_is_shown_once_it_is_known_of_how_many() {
        let terminal = Terminal::default();
        let drawn = || std::mem::take(&mut *terminal.0.lock().unwrap());
        let progress = Progress::of("revoked", None);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        progress.0.set_draw_target(target);
        progress.at(7);
        progress.0.force_draw();
        let before = drawn();
        assert!(before.contains("7 revoked") && !before.contains('%'), "{before}");
        progress.expect(28);
        progress.0.force_draw();
        let after = drawn();
        assert!(after.contains(" 25% 7 of 28 revoked"), "{after}");
        progress.end();
    }
}
