//! How much is asked at once, how long is waited, and when it is given up.
//!
//! - [`aimd`]: concurrency rises while a server answers and falls when it says that it is overloaded;
//! - [`bucket`]: requests and tokens a minute, where the user names them;
//! - [`breaker`]: an address whose requests fail is left alone for a while, then tried with one;
//! - [`retry_after`]: every form of that header, within a cap;
//! - [`pool`]: all of these for the addresses behind one name.
//!
//! The parts are plain state machines over a time that is handed in.

pub mod aimd;
pub mod breaker;
pub mod bucket;
pub mod pool;
pub mod retry_after;

use std::time::Duration;

use forwhy_core::seed;
use serde::{Deserialize, Serialize};

use crate::key::Key;

/// The limits of one model. Every loop, wait and queue of a client has one here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests in flight at most, for each address.
    pub connections: usize,
    /// Requests in flight at first; doubled with every round of answers until the first overload.
    pub start: usize,
    /// Requests a minute, for each address; no limit if absent.
    pub requests_per_minute: Option<f64>,
    /// Tokens a minute (prompt as estimated, and `max_tokens`), for each address.
    pub tokens_per_minute: Option<f64>,
    /// Times that a request is sent again after a failure that is no overload.
    pub retries: u32,
    /// Seconds that a request waits out rate limits and overload before it is given up, and that a
    /// run goes on without any answer.
    pub patience_secs: f64,
    /// The longest wait that a `Retry-After` is granted, seconds.
    pub retry_after_cap_secs: f64,
    /// Seconds to make a connection.
    pub connect_secs: f64,
    /// Seconds without a byte. A server that does not stream sends none while it computes.
    pub idle_secs: f64,
    /// Seconds for a whole exchange.
    pub total_secs: f64,
    /// Failures of the same kind in a row, of those that waiting does not cure (key refused, no such
    /// model, another model answers), after which the run stops.
    pub same_failures: u32,
    /// Requests in a row that were given up, after which the run stops.
    pub given_up_in_a_row: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 200,
            start: 32,
            requests_per_minute: None,
            tokens_per_minute: None,
            retries: 4,
            patience_secs: 600.0,
            retry_after_cap_secs: 60.0,
            connect_secs: 15.0,
            idle_secs: 300.0,
            total_secs: 1200.0,
            same_failures: 3,
            given_up_in_a_row: 25,
        }
    }
}

impl Limits {
    /// Refuses limits that would freeze a run or that are none.
    pub fn check(&self) -> Result<(), String> {
        let times = [
            ("patience_secs", self.patience_secs),
            ("retry_after_cap_secs", self.retry_after_cap_secs),
            ("connect_secs", self.connect_secs),
            ("idle_secs", self.idle_secs),
            ("total_secs", self.total_secs),
            ("requests_per_minute", self.requests_per_minute.unwrap_or(1.0)),
            ("tokens_per_minute", self.tokens_per_minute.unwrap_or(1.0)),
        ];
        if let Some((name, value)) = times.iter().find(|(_, v)| !(*v > 0.0 && *v <= 1e9)) {
            return Err(format!("limits.{name} is {value}; it must be above 0 and at most 1e9"));
        }
        let counts = [("connections", self.connections), ("start", self.start)];
        if let Some((name, value)) = counts.iter().find(|(_, v)| !(1..=100_000).contains(v)) {
            return Err(format!("limits.{name} is {value}; it must be between 1 and 100000"));
        }
        if self.same_failures == 0 || self.given_up_in_a_row == 0 {
            return Err("limits.same_failures and given_up_in_a_row must be at least 1".into());
        }
        Ok(())
    }

    /// `secs` as a duration; checked by [`Limits::check`].
    pub(crate) fn secs(secs: f64) -> Duration {
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::from_secs(1_000_000_000))
    }
}

/// The shortest and the longest wait before a request is sent again, seconds.
const BACKOFF_SECS: (f64, f64) = (0.5, 30.0);

/// How long to wait before the retry that follows `tries` failures: doubled each time, between half
/// and all of it, by the stream of this request.
pub fn backoff(key: &Key, tries: u32) -> Duration {
    let (least, most) = BACKOFF_SECS;
    let full = (least * 2f64.powi(tries.min(16) as i32)).min(most);
    let mut stream = seed::stream(&["backoff", &key.to_string(), &tries.to_string()]);
    Duration::from_secs_f64(full * (0.5 + 0.5 * stream.unit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Dialect;

    #[test]
    fn the_default_limits_are_limits_and_odd_ones_are_refused() {
        Limits::default().check().unwrap();
        for wrong in [
            Limits { idle_secs: f64::NAN, ..Limits::default() },
            Limits { total_secs: 0.0, ..Limits::default() },
            Limits { connections: 0, ..Limits::default() },
            Limits { requests_per_minute: Some(-1.0), ..Limits::default() },
            Limits { same_failures: 0, ..Limits::default() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn waits_grow_to_a_cap_and_differ_between_requests() {
        let key = |n: u32| Key::of(Dialect::OpenAi, &json!({"n": n}), "i", 0);
        for tries in 0..40 {
            let secs = backoff(&key(1), tries).as_secs_f64();
            assert!((0.25..=30.0).contains(&secs), "{tries}: {secs}");
        }
        assert_ne!(backoff(&key(1), 3), backoff(&key(2), 3));
        assert!(backoff(&key(1), 9) > backoff(&key(1), 0));
    }
}
