//! A token bucket: so much a minute, with a burst of a few seconds' worth.

use std::time::Duration;

/// Seconds of its rate that a full bucket holds.
const BURST_SECS: f64 = 5.0;

/// Fills at a fixed rate; what is taken from it is at most that rate over any longer time.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_sec: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub fn per_minute(rate: f64) -> Bucket {
        let per_sec = rate / 60.0;
        Bucket { per_sec, level: per_sec * BURST_SECS, at: Duration::ZERO }
    }

    /// How long until `amount` may be taken. An amount that never fits may be taken when the bucket
    /// is full: a single request is never refused for ever.
    pub fn wait(&self, amount: f64, now: Duration) -> Duration {
        let needed = amount.min(self.most());
        let missing = needed - self.level_at(now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        // A little more, so that rounding does not make one more round of waiting.
        Duration::try_from_secs_f64(missing / self.per_sec).unwrap_or(Duration::MAX)
            + Duration::from_millis(1)
    }

    /// Takes `amount`; the level may fall below nothing.
    pub fn take(&mut self, amount: f64, now: Duration) {
        self.level = self.level_at(now) - amount;
        self.at = now;
    }

    fn most(&self) -> f64 {
        (self.per_sec * BURST_SECS).max(1.0)
    }

    fn level_at(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        (self.level + passed * self.per_sec).min(self.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_minutes_for_small_and_large_amounts() {
        for (rate, amount) in [(600.0, 1.0), (6.0, 1.0), (6000.0, 2500.0)] {
            let mut bucket = Bucket::per_minute(rate);
            let (mut now, mut taken) = (Duration::ZERO, 0.0);
            while now < Duration::from_secs(600) {
                now += bucket.wait(amount, now);
                assert_eq!(bucket.wait(amount, now), Duration::ZERO);
                bucket.take(amount, now);
                taken += amount;
            }
            let most = rate * 10.0 + rate / 60.0 * BURST_SECS + amount * 2.0;
            assert!(taken <= most && taken >= rate * 9.0, "{rate} {amount}: {taken}");
        }
    }
}
