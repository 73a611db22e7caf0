//! Training data: where rows come from, and what is wrong with them.
//!
//! 1. [`corpus`] reads rows (JSON Lines) and situations (TOML) into one list of rows;
//! 2. [`curate`] measures shape, repetition, names and contamination; it flags, it drops nothing.

pub mod corpus;
pub mod curate;
