//! Progress on stderr: a bar with rate and ETA on a terminal, one line a stage elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal as _;

use forwhy_lab::outside::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress for people.
pub(crate) struct Bars {
    terminal: bool,
    bar: RefCell<ProgressBar>,
    stage: RefCell<String>,
}

impl Bars {
    /// Bars if stderr is a terminal, lines if not.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = RefCell::new(ProgressBar::hidden());
        Bars { terminal, bar, stage: RefCell::default() }
    }

    #[allow(clippy::print_stderr, reason = "this is the place that prints progress")]
    fn line(&self, text: &str) {
        if self.terminal {
            self.bar.borrow().suspend(|| eprintln!("{text}"));
        } else {
            eprintln!("{text}");
        }
    }
}

impl Progress for Bars {
    fn begin(&self, stage: &str, unit: &str, total: u64) {
        let target =
            if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let shape = format!(
            "   {{prefix:14}} {{bar:24}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left  {{msg}}"
        );
        // The template is a constant of this function; a wrong one would only lose its looks.
        if let Ok(style) = ProgressStyle::with_template(&shape) {
            bar.set_style(style);
        }
        bar.set_prefix(stage.to_string());
        *self.stage.borrow_mut() = stage.into();
        *self.bar.borrow_mut() = bar;
    }

    fn advance(&self, done: u64, note: &str) {
        let bar = self.bar.borrow();
        bar.inc(done);
        bar.set_message(note.to_string());
    }

    fn end(&self, summary: &str) {
        self.bar.borrow().finish_and_clear();
        let stage = self.stage.borrow().clone();
        self.line(&format!("   {stage:14} {summary}"));
    }

    fn say(&self, line: &str) {
        self.line(line);
    }
}
