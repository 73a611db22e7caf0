//! A circuit breaker by success rate: an address where requests fail is left alone, whatever its
//! health page says.

use std::time::Duration;

/// Outcomes that are looked at.
const WINDOW: u32 = 16;
/// Outcomes before anything is concluded.
const LEAST: u32 = 6;
/// The first rest and the longest.
const REST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));

/// Whether requests may go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// As many as other limits allow.
    Open,
    /// One, to see whether it answers again.
    Probe,
    /// None until then.
    Closed(Duration),
}

/// The breaker of one address.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// The last outcomes, the latest in the lowest bit; 1 is success.
    outcomes: u32,
    seen: u32,
    /// Rests since the last success.
    rests: u32,
    closed_until: Option<Duration>,
}

impl Breaker {
    /// What may be sent now.
    pub fn gate(&self, now: Duration) -> Gate {
        match self.closed_until {
            None => Gate::Open,
            Some(until) if now < until => Gate::Closed(until),
            Some(_) => Gate::Probe,
        }
    }

    /// A request succeeded (also: was refused in good order).
    pub fn succeeded(&mut self) {
        if self.closed_until.is_some() {
            *self = Breaker::default();
        }
        self.note(1);
    }

    /// A request failed: no answer, or none that can be read. True if the address is ejected now.
    pub fn failed(&mut self, now: Duration) -> bool {
        self.note(0);
        let is_probe = matches!(self.gate(now), Gate::Probe);
        let successes = (self.outcomes & ((1 << self.seen) - 1)).count_ones();
        let is_bad = self.seen >= LEAST && successes * 2 < self.seen;
        if !(is_probe || self.closed_until.is_none() && is_bad) {
            return false;
        }
        let (first, longest) = REST;
        let rest = first.saturating_mul(1 << self.rests.min(10)).min(longest);
        self.rests += 1;
        self.closed_until = Some(now + rest);
        true
    }

    fn note(&mut self, bit: u32) {
        self.outcomes = (self.outcomes << 1) | bit;
        self.seen = (self.seen + 1).min(WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn fault_20_an_address_that_fails_is_ejected_probed_and_taken_back() {
        let mut breaker = Breaker::default();
        assert!((0..5).all(|_| !breaker.failed(S)), "too little to judge by");
        assert!(breaker.failed(S));
        assert_eq!(breaker.gate(2 * S), Gate::Closed(6 * S));
        assert_eq!(breaker.gate(6 * S), Gate::Probe);
        assert!(breaker.failed(6 * S), "the probe failed: a longer rest");
        assert_eq!(breaker.gate(7 * S), Gate::Closed(16 * S));
        breaker.succeeded();
        assert_eq!(breaker.gate(7 * S), Gate::Open);
    }

    #[test]
    fn a_few_failures_among_answers_eject_nobody() {
        let mut breaker = Breaker::default();
        for i in 0..1000u32 {
            if i % 3 == 0 {
                assert!(!breaker.failed(i * S));
            } else {
                breaker.succeeded();
            }
        }
        assert_eq!(breaker.gate(1000 * S), Gate::Open);
    }

    #[test]
    fn late_failures_of_an_ejected_address_do_not_prolong_its_rest() {
        let mut breaker = Breaker::default();
        (0..6).for_each(|_| assert!(breaker.failed(S) == (breaker.seen >= LEAST)));
        (0..100).for_each(|_| assert!(!breaker.failed(2 * S)));
        assert_eq!(breaker.gate(3 * S), Gate::Closed(6 * S));
    }
}
