//! Supervised training on rows and documents.
//!
//! 1. [`batch`] turns rows into steps with a token budget, an order and a mask;
//! 2. [`sft`] runs the steps, saves and resumes.

pub mod batch;
pub mod sft;
