//! Fixtures for tests: a tiny random model in Hugging Face layout, made by code, so that whole studies
//! run offline in seconds.

pub mod tiny_model;
