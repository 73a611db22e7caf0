//! Anthropic's messages.

mod body;
mod read;
mod stream;

pub(super) use body::body;

use super::received::{Head, Received};

/// The reply in `bytes`, whole or streamed.
pub(super) fn read(head: &Head, bytes: &[u8]) -> Received {
    if head.is_stream() { stream::read(head, bytes) } else { read::whole(head, bytes) }
}
