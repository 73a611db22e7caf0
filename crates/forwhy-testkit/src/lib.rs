//! Fixtures for tests: a tiny random model in Hugging Face layout and a complete study on it, made by
//! code, so that whole studies run offline in seconds.

pub mod micro_study;
pub mod pieces_model;
pub mod tiny_model;
