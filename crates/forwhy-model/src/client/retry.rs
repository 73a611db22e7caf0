//! Whether a request is sent again: what waiting may cure, how often, and for how long.

use std::time::Duration;

use super::{Outcome, Refusal};
use crate::key::Key;
use crate::ledger::event::Reason;
use crate::limit::{Limits, backoff, retry_after};
use crate::wire::Received;

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: answered, or given up.
    Done,
    /// The same bytes again, later.
    Again {
        /// How long to wait.
        after: Duration,
        /// The attempt that failed.
        attempt: u16,
        /// Why it did.
        refusal: Refusal,
    },
}

/// The patience that is left for one request.
#[derive(Debug)]
pub struct Patience {
    key: Key,
    cap: Duration,
    retries_left: u32,
    waiting_left: Duration,
    /// Waits for overload so far.
    waits: u32,
    failures: u32,
    asked: Option<Duration>,
}

/// What neither waiting nor asking again cures; several in a row stop the run.
pub fn is_hopeless(reason: Reason) -> bool {
    use Reason::{Auth, NoCredit, NotFound, Redirect, Unhonoured, WrongServed};
    matches!(reason, Auth | NoCredit | NotFound | Redirect | Unhonoured | WrongServed)
}

fn is_overload(reason: Reason) -> bool {
    matches!(reason, Reason::RateLimited | Reason::Overloaded)
}

impl Patience {
    /// For one request.
    pub fn new(key: Key, limits: &Limits) -> Patience {
        Patience {
            key,
            cap: Limits::secs(limits.retry_after_cap_secs),
            retries_left: limits.retries,
            waiting_left: Limits::secs(limits.patience_secs),
            waits: 0,
            failures: 0,
            asked: None,
        }
    }

    /// Times that the request was sent again.
    pub fn retries(&self) -> u32 {
        self.waits + self.failures
    }

    /// What the server asked to wait at its last overload, capped.
    pub fn asked_to_wait(&self) -> Option<Duration> {
        self.asked
    }

    /// What follows an attempt that came out like this.
    pub fn next(&mut self, attempt: u16, outcome: &Outcome, now_ms: u64) -> Next {
        self.asked = None;
        let Some(refusal) = &outcome.refusal else { return Next::Done };
        if is_hopeless(refusal.reason) || refusal.reason.is_final() {
            return Next::Done;
        }
        let after = match is_overload(refusal.reason) {
            true => self.wait_out(outcome.received.as_ref(), now_ms),
            false => self.after_failure(),
        };
        match after {
            Some(after) => Next::Again { after, attempt, refusal: refusal.clone() },
            None => Next::Done,
        }
    }

    /// Overload is waited out for a total time, however many tries that takes.
    fn wait_out(&mut self, received: Option<&Received>, now_ms: u64) -> Option<Duration> {
        let header = match received {
            Some(
                Received::RateLimited { retry_after, .. }
                | Received::Overloaded { retry_after, .. },
            ) => retry_after.as_deref(),
            _ => None,
        };
        self.asked = retry_after::wait(header, self.cap, now_ms);
        let own = backoff(&self.key, self.waits);
        // A server that asks for no wait at all is still not asked in a tight loop.
        let after = self.asked.map_or(own, |asked| asked.max(own.min(Duration::from_secs(1))));
        self.waiting_left = self.waiting_left.checked_sub(after)?;
        self.waits += 1;
        Some(after)
    }

    /// Other failures are tried again a few times.
    fn after_failure(&mut self) -> Option<Duration> {
        self.retries_left = self.retries_left.checked_sub(1)?;
        let after = backoff(&self.key, self.failures);
        self.failures += 1;
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::budget::Cost;
    use crate::wire::Dialect;

    fn patience(limits: &Limits) -> Patience {
        Patience::new(Key::of(Dialect::OpenAi, &json!({}), "i", 0), limits)
    }

    fn refused(reason: Reason) -> Outcome {
        let refusal = Some(Refusal { reason, detail: "d".into() });
        Outcome { received: None, refusal, cost: Cost::NONE }
    }

    fn overloaded(retry_after: Option<&str>) -> Outcome {
        let retry_after = retry_after.map(String::from);
        let received = Some(Received::Overloaded { retry_after, message: "m".into() });
        Outcome { received, ..refused(Reason::Overloaded) }
    }

    fn wait(next: &Next) -> Option<f64> {
        match next {
            Next::Again { after, .. } => Some(after.as_secs_f64()),
            Next::Done => None,
        }
    }

    #[test]
    fn fault_13_overload_is_waited_out_for_minutes_and_not_for_ever() {
        let mut patience = patience(&Limits { patience_secs: 100.0, ..Limits::default() });
        let mut waited = 0.0;
        let mut tries = 0;
        while let Some(secs) = wait(&patience.next(1, &overloaded(None), 0)) {
            waited += secs;
            tries += 1;
        }
        assert!((60.0..=100.0).contains(&waited) && tries > 4, "{waited} s, {tries} tries");
    }

    #[test]
    fn fault_12_the_header_is_obeyed_within_the_cap() {
        let limits = Limits { retry_after_cap_secs: 20.0, ..Limits::default() };
        for (header, least, most) in [("7", 7.0, 7.0), ("inf", 20.0, 20.0), ("-1", 0.2, 1.0)] {
            let mut patience = patience(&limits);
            let next = patience.next(1, &overloaded(Some(header)), 0);
            let secs = wait(&next).unwrap();
            assert!((least..=most).contains(&secs), "{header}: {secs}");
        }
    }

    #[test]
    fn fault_14_what_cannot_be_cured_is_not_tried_again() {
        for reason in [
            Reason::Auth,
            Reason::BadRequest,
            Reason::NotFound,
            Reason::NoCredit,
            Reason::WrongServed,
            Reason::Redirect,
            Reason::ContextOverflow,
            Reason::Filtered,
        ] {
            let next = patience(&Limits::default()).next(1, &refused(reason), 0);
            assert_eq!(next, Next::Done, "{reason}");
        }
    }

    #[test]
    fn fault_19_other_failures_are_tried_a_bounded_number_of_times() {
        let mut patience = patience(&Limits { retries: 3, ..Limits::default() });
        let tries =
            (0..100).take_while(|_| wait(&patience.next(1, &refused(Reason::Broken), 0)).is_some());
        assert_eq!(tries.count(), 3);
        assert_eq!(patience.retries(), 3);
    }
}
