//! Money: what a call may cost at most is reserved before it, what it cost is settled after it.
//!
//! 1. [`price::Price`] turns tokens into [`Usd`]; a model without a price is refused unless the user
//!    gives one or allows it ([`price::find`]).
//! 2. [`Budget::reserve`] before a call, with [`price::Price::worst`]; the calls in flight can
//!    therefore never spend more than is left.
//! 3. [`Budget::settle`] after it: what the usage in the reply says, or, where it says nothing, the
//!    reserve itself (an estimate on the high side, counted apart, never zero).

pub mod price;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// An amount in nanodollars.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Usd(pub u64);

impl Usd {
    /// Of dollars; negative and unreal amounts are refused.
    pub fn from_dollars(dollars: f64) -> Option<Usd> {
        let nano = dollars * 1e9;
        (dollars.is_finite() && dollars >= 0.0 && nano < 9e18).then_some(Usd(nano.round() as u64))
    }

    /// In dollars, for people and projections.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The sum, at most the largest amount.
    pub fn plus(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }

    /// The difference, at least nothing.
    pub fn minus(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.dollars();
        if self.0 == 0 || dollars >= 0.1 {
            return write!(f, "${dollars:.2}");
        }
        let digits = if dollars >= 0.001 { 4 } else { 6 };
        write!(f, "${dollars:.digits$}")
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd(0), Usd::plus)
    }
}

/// What a call cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The amount.
    pub nano_usd: Usd,
    /// Not known from the reply, and taken as high as it can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Cost {
    /// Nothing: the server refused before it computed.
    pub const NONE: Cost = Cost { nano_usd: Usd(0), estimated: false };

    /// Known from the reply's usage.
    pub fn known(nano_usd: Usd) -> Cost {
        Cost { nano_usd, estimated: false }
    }

    /// Unknown, and at most this.
    pub fn at_most(nano_usd: Usd) -> Cost {
        Cost { nano_usd, estimated: true }
    }
}

/// Spent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// As replies said.
    pub known: Usd,
    /// Estimated on the high side, where no reply or no usage came.
    pub estimated: Usd,
}

impl Spent {
    /// Adds one call.
    pub fn add(&mut self, cost: Cost) {
        let slot = if cost.estimated { &mut self.estimated } else { &mut self.known };
        *slot = slot.plus(cost.nano_usd);
    }

    /// Both together.
    pub fn total(&self) -> Usd {
        self.known.plus(self.estimated)
    }
}

/// No call fits any more. What was answered is kept; the same command goes on with a higher budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the budget of {cap} is used up: {spent} spent, and the next call may cost {next}; nothing is \
     lost, and the same command with a higher --budget goes on from here",
    spent = spent.total()
)]
pub struct OverBudget {
    /// What may be spent.
    pub cap: Usd,
    /// What was.
    pub spent: Spent,
    /// The worst case of the call that does not fit.
    pub next: Usd,
}

/// Holds the spending of all runs on a ledger below a cap.
#[derive(Debug)]
pub struct Budget {
    cap: Option<Usd>,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    reserved: Usd,
}

impl Budget {
    /// A cap (or none) on top of what earlier runs have spent.
    pub fn new(cap: Option<Usd>, spent: Spent) -> Budget {
        let state = Mutex::new(State { spent, reserved: Usd(0) });
        Budget { cap, state, settled: Notify::new() }
    }

    /// Sets the worst case of a call aside. Where it does not fit only because other calls are in
    /// flight, waits until one of them settles.
    pub async fn reserve(&self, worst: Usd) -> Result<(), OverBudget> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Registered before the look, so that a settlement in between is not missed.
            settled.as_mut().enable();
            match self.try_reserve(worst) {
                Ok(true) => return Ok(()),
                Ok(false) => settled.await,
                // Waiting ones have something in flight that will settle and wake them.
                Err(over) => return Err(over),
            }
        }
    }

    /// Whether the worst case fits now; an error if it cannot fit even when all in flight cost
    /// nothing.
    fn try_reserve(&self, worst: Usd) -> Result<bool, OverBudget> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cap) = self.cap else {
            state.reserved = state.reserved.plus(worst);
            return Ok(true);
        };
        let spent = state.spent;
        if spent.total().plus(worst) > cap {
            return Err(OverBudget { cap, spent, next: worst });
        }
        let fits = spent.total().plus(state.reserved).plus(worst) <= cap;
        if fits {
            state.reserved = state.reserved.plus(worst);
        }
        Ok(fits)
    }

    /// Gives a reserve back and counts what the call cost.
    pub fn settle(&self, reserved: Usd, cost: Cost) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reserved = state.reserved.minus(reserved);
        state.spent.add(cost);
        drop(state);
        self.settled.notify_waiters();
    }

    /// Spent by all runs so far.
    pub fn spent(&self) -> Spent {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).spent
    }

    /// What may be spent, if there is a limit.
    pub fn cap(&self) -> Option<Usd> {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(cents: u64) -> Budget {
        Budget::new(Some(Usd(cents)), Spent::default())
    }

    #[tokio::test]
    async fn fault_31_calls_in_flight_never_reserve_more_than_is_left() {
        let budget = budget(10);
        let mut granted = 0;
        for _ in 0..200 {
            granted += usize::from(budget.try_reserve(Usd(10)).unwrap());
        }
        assert_eq!(granted, 1);
        budget.settle(Usd(10), Cost::known(Usd(9)));
        let over = budget.reserve(Usd(2)).await.unwrap_err();
        assert_eq!((over.next, over.spent.total()), (Usd(2), Usd(9)));
        budget.reserve(Usd(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_call_waits_for_those_in_flight_before_it_gives_up() {
        let budget = std::sync::Arc::new(budget(10));
        budget.reserve(Usd(10)).await.unwrap();
        let second = tokio::spawn({
            let budget = std::sync::Arc::clone(&budget);
            async move { budget.reserve(Usd(6)).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        budget.settle(Usd(10), Cost::known(Usd(4)));
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn all_that_wait_learn_that_the_budget_is_used_up() {
        let budget = std::sync::Arc::new(budget(10));
        budget.reserve(Usd(10)).await.unwrap();
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let budget = std::sync::Arc::clone(&budget);
                tokio::spawn(async move { budget.reserve(Usd(6)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        budget.settle(Usd(10), Cost::at_most(Usd(10)));
        for waited in waiting {
            let over = waited.await.unwrap().unwrap_err();
            assert_eq!(over.spent.estimated, Usd(10));
        }
    }

    #[test]
    fn small_amounts_are_not_shown_as_nothing() {
        let shown: Vec<String> =
            [0, 12_345_000_000, 12_345_678, 123_456].map(|n| Usd(n).to_string()).into();
        assert_eq!(shown, ["$0.00", "$12.35", "$0.0123", "$0.000123"]);
        assert_eq!(Usd::from_dollars(f64::NAN), None);
        assert_eq!(Usd::from_dollars(-1.0), None);
    }
}
