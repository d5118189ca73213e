//! Shows the progress of a run on standard error: a bar on a terminal, and otherwise a line now and then.

use std::{
    io::IsTerminal as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::print;
use crate::scrub::Pass;

/// The time between two lines of progress.
const EVERY: Duration = Duration::from_mins(1);

/// The progress of a run.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    pass: Pass,
    bar: ProgressBar,
    done: u64,
    total: u64,
    began: Instant,
    said: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the progress of a pass: `done` of about `total` things.
    pub(super) fn at(&self, pass: Pass, done: u64, total: u64) {
        let mut state = self.state();
        let now = Instant::now();
        let state = match &mut *state {
            Some(state) if state.pass == pass => state,
            other => {
                if let Some(before) = other.take() {
                    self.end(&before);
                }
                if !self.terminal {
                    print::error_line(format_args!("scrub: {}", pass.as_str()));
                }
                let bar = if self.terminal { bar(pass) } else { ProgressBar::hidden() };
                other.insert(State { pass, bar, done, total, began: now, said: now })
            }
        };
        // reports of concurrent work come in no order
        (state.done, state.total) = (state.done.max(done), total);
        if self.terminal {
            let length = total.max(state.done);
            if state.bar.length() != Some(length) {
                state.bar.set_length(length);
            }
            state.bar.set_position(state.done);
        } else if state.said.elapsed() >= EVERY {
            state.said = now;
            print::error_line(format_args!("scrub: {}: {}", pass.as_str(), state.says()));
        }
    }

    /// Writes a line above the bar.
    pub(super) fn line(&self, line: &str) {
        match &*self.state() {
            Some(state) => state.bar.suspend(|| print::error_line(line)),
            None => print::error_line(line),
        }
    }

    /// Ends the last pass.
    pub(super) fn finish(&self) {
        if let Some(state) = self.state().take() {
            self.end(&state);
        }
    }

    fn end(&self, state: &State) {
        state.bar.finish_and_clear();
        if !self.terminal {
            let took = state.began.elapsed().as_secs();
            print::error_line(format_args!("scrub: {}: {} looked at in {took} s", state.pass.as_str(), state.done));
        }
    }
}

impl State {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate for people"
    )]
    fn says(&self) -> String {
        let rate = self.done as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-3);
        format!("{} of {}, {rate:.0}/s, about {} s left", self.done, self.total, left as u64)
    }
}

fn bar(pass: Pass) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix:>10} {wide_bar} {human_pos}/{human_len} {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(pass.as_str());
    bar
}
