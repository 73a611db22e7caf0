//! Row-wise operations with their backward passes. Slices hold whole rows.

pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod qk_norm;
pub(crate) mod rope;
pub(crate) mod swiglu;
