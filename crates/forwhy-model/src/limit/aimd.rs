//! Additive increase, multiplicative decrease: how many requests a server bears is found by trying.

use std::time::Duration;

/// Share of the concurrency that is kept when the server is overloaded.
const KEPT: f64 = 0.7;

/// The concurrency of one address.
#[derive(Clone, Debug)]
pub struct Aimd {
    limit: f64,
    most: f64,
    /// No overload was met yet: double with every round of answers.
    is_starting: bool,
    lowered_at: Option<Duration>,
}

impl Aimd {
    /// Starts at `start` and never exceeds `most` (both at least 1).
    pub fn new(start: usize, most: usize) -> Aimd {
        let most = most.max(1) as f64;
        Aimd { limit: (start.max(1) as f64).min(most), most, is_starting: true, lowered_at: None }
    }

    /// Requests that may be in flight now.
    pub fn allowed(&self) -> usize {
        self.limit as usize
    }

    /// An answer came.
    pub fn answered(&mut self) {
        let step = if self.is_starting { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + step).min(self.most);
    }

    /// A request that left at `sent` met overload at `now`. Requests that left before the last
    /// decrease say nothing new: a burst of refusals lowers the limit once.
    pub fn overloaded(&mut self, sent: Duration, now: Duration) {
        if self.lowered_at.is_none_or(|at| sent >= at) {
            self.limit = (self.limit * KEPT).max(1.0);
            self.is_starting = false;
            self.lowered_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn fault_12_concurrency_falls_and_rises_again_and_is_never_frozen() {
        let mut aimd = Aimd::new(8, 64);
        (0..200).for_each(|_| aimd.answered());
        assert_eq!(aimd.allowed(), 64);
        for second in 1..100 {
            aimd.overloaded(second * S, second * S + S / 2);
        }
        assert_eq!(aimd.allowed(), 1);
        let mut answers = 0;
        while aimd.allowed() < 64 {
            aimd.answered();
            answers += 1;
            assert!(answers < 64 * 64, "it never rises");
        }
    }

    #[test]
    fn a_burst_of_refusals_lowers_the_limit_once() {
        let mut aimd = Aimd::new(100, 100);
        for _ in 0..100 {
            aimd.overloaded(S, 2 * S);
        }
        assert_eq!(aimd.allowed(), 70);
        aimd.overloaded(2 * S, 3 * S);
        assert_eq!(aimd.allowed(), 49);
    }
}
