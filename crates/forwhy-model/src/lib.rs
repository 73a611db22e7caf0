//! Models on servers: what is sent to them, what came back, and what it cost.
//!
//! A request of `forwhy-core` becomes the body of a dialect ([`wire::body`]); what came back is read
//! by [`wire::read`], which is total: every odd reply is a value of [`wire::Received`]. Bytes are kept
//! as they came, so that a better reader reads them again for nothing.

pub mod wire;
