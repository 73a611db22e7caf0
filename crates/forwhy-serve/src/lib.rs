//! Servers: what answers others.
//!
//! - [`mock`]: a server on loopback that plays scripted replies, latencies and every fault of a
//!   network, the same again for the same seed. Tests and offline demos run against it.

pub mod mock;
