//! The real clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use forwhy_lab::outside::Clock;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "this is the clock that others get as a parameter")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock that is set before 1970 says nothing better than that.
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The system's clocks.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting now.
    pub(crate) fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that others get as a parameter"
    )]
    fn now(&self) -> String {
        humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
    }

    fn cpu_secs(&self) -> f64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }

    fn wall_secs(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// Seconds since 1970.
pub(crate) fn unix_secs() -> u64 {
    since_1970().as_secs()
}

/// Nanoseconds since 1970.
pub(crate) fn unix_nanos() -> u128 {
    since_1970().as_nanos()
}

#[allow(clippy::disallowed_methods, reason = "this is the clock that others get as a parameter")]
fn since_1970() -> std::time::Duration {
    // A clock that is set before 1970 gives 0: nothing is computed from these times.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
