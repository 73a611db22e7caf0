//! Servers: what answers others.
//!
//! - [`mock`]: a server on loopback that plays scripted replies, latencies and every fault of a
//!   network, the same again for the same seed. Tests and offline demos run against it.
//! - [`openai`]: `forwhy serve`, an OpenAI-compatible server for a local model and its adapters.

pub mod mock;
pub mod openai;
