//! What a run needs from outside: clocks, a place to show progress, and a wish to stop. The command
//! brings real ones; tests bring fixed ones, so that a run can be repeated byte for byte.

use std::sync::atomic::{AtomicBool, Ordering};

/// Clocks.
pub trait Clock {
    /// Now, RFC 3339 in UTC with seconds.
    fn now(&self) -> String;
    /// CPU-seconds of this process so far.
    fn cpu_secs(&self) -> f64;
    /// Seconds since some fixed moment.
    fn wall_secs(&self) -> f64;
}

/// A place to show progress.
pub trait Progress {
    /// A stage of `total` items of `unit` begins.
    fn begin(&self, stage: &str, unit: &str, total: u64);
    /// `done` more items are done; `note` says what is known by now (loss, outcome counts).
    fn advance(&self, done: u64, note: &str);
    /// The stage is over; `summary` stays on the screen.
    fn end(&self, summary: &str);
    /// A line that stays on the screen.
    fn say(&self, line: &str);
}

/// Progress that is shown nowhere.
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self, _: &str) {}
    fn say(&self, _: &str) {}
}

/// Everything from outside.
pub struct Outside<'a> {
    /// Clocks.
    pub clock: &'a dyn Clock,
    /// Progress.
    pub progress: &'a dyn Progress,
    /// Set when the user wants to stop.
    pub stop: &'a AtomicBool,
}

/// The user asked to stop; everything done so far is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request; the same command goes on from here")]
pub struct Stopped;

/// The user's input is at fault and nothing was written: a mark on an error, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the input is at fault, nothing was changed")]
pub struct UserFault;

impl Outside<'_> {
    /// An error if the user asked to stop: called between steps, when everything is on disk.
    pub fn go_on(&self) -> Result<(), Stopped> {
        if self.stop.load(Ordering::Relaxed) { Err(Stopped) } else { Ok(()) }
    }
}

/// Measures what a piece of work costs.
pub struct Stopwatch {
    cpu: f64,
    wall: f64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start(clock: &dyn Clock) -> Self {
        Stopwatch { cpu: clock.cpu_secs(), wall: clock.wall_secs() }
    }

    /// CPU-seconds and wall seconds since the start.
    pub fn read(&self, clock: &dyn Clock) -> Cost {
        Cost { cpu_secs: clock.cpu_secs() - self.cpu, wall_secs: clock.wall_secs() - self.wall }
    }
}

/// What a piece of work cost, summed over resumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// CPU-seconds of all threads.
    pub cpu_secs: f64,
    /// Seconds on the clock.
    pub wall_secs: f64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.cpu_secs += other.cpu_secs;
        self.wall_secs += other.wall_secs;
    }
}
