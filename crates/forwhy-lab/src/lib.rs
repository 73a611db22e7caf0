//! Studies: plan, run folder, resume, arms, seeds, comparisons.
