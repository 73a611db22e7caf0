//! What travels: requests in the dialect of a server, and every reply that can come back.
//!
//! 1. [`body`] turns a request and [`Settings`] into the JSON of a [`Dialect`]. A setting that the
//!    dialect cannot express is refused ([`Unhonoured`]), never dropped.
//! 2. [`canonical`] gives the bytes. They are sent, hashed and stored as they are.
//! 3. [`read`] turns status, headers and bytes into [`Received`]. It is pure and total, so that
//!    stored bytes can be read again, for nothing, by a better reader.
//!
//! The types that a *server* of the OpenAI dialect reads and writes stand in [`openai`].

pub mod openai;

mod received;
mod settings;

pub use received::{Answer, Head, Received, Served, TokenLogprob, Usage};
pub use settings::{CacheBreakpoints, Dialect, Reasoning, ServedAs, Settings, Unhonoured};

use serde_json::Value;

/// The bytes of a body: top-level keys sorted, no whitespace.
///
/// Keys further down keep their order. The order of the properties of a tool's schema is part of the
/// prompt that a model reads; sorting it would change the request, and hashing it sorted would share
/// one answer between two prompts.
pub fn canonical(body: &Value) -> Vec<u8> {
    let Value::Object(fields) = body else { return body.to_string().into_bytes() };
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut out = Vec::with_capacity(256);
    for (i, (key, value)) in sorted.into_iter().enumerate() {
        out.push(if i == 0 { b'{' } else { b',' });
        out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(value.to_string().as_bytes());
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    out
}
