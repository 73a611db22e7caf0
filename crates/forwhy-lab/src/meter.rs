//! What a unit cost, summed over all attempts: a record is appended after every piece of work, so
//! that a killed attempt loses at most the cost of one piece.

use std::path::Path;

use anyhow::{Context, Result};
use forwhy_store::segment::Appender;

use crate::outside::{Clock, Cost, Stopwatch};

/// Adds up costs of one kind of work on one unit.
pub(crate) struct Meter<'a> {
    clock: &'a dyn Clock,
    watch: Stopwatch,
    out: Appender<Cost>,
    total: Cost,
}

impl<'a> Meter<'a> {
    /// Goes on from what `path` holds already.
    pub(crate) fn open(path: &Path, clock: &'a dyn Clock) -> Result<Self> {
        let (out, before) = Appender::<Cost>::open(path)?;
        if let Some(damage) = before.damaged.into_iter().next() {
            return Err(damage).context("a part of what this unit cost is unknown");
        }
        let mut total = Cost::default();
        before.records.iter().for_each(|cost| total += *cost);
        Ok(Meter { clock, watch: Stopwatch::start(clock), out, total })
    }

    /// Records what was spent since the last call.
    pub(crate) fn tick(&mut self) -> Result<()> {
        let spent = self.watch.read(self.clock);
        self.watch = Stopwatch::start(self.clock);
        self.out.append(&spent)?;
        self.total += spent;
        Ok(())
    }

    /// All recorded costs.
    pub(crate) fn total(&self) -> Cost {
        self.total
    }
}
