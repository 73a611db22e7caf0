//! What the two kinds of segments hold. The only types of the ledger that reach a file.
//!
//! `states-*.seg` holds [`Event`]s: small, so that all of them are walked in a moment. `bodies-*.seg`
//! holds [`Body`]s: the bytes that were sent and the bytes that came back. An event points into a
//! body by its [`Place`].

use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::budget::price::Price;
use crate::budget::{Cost, Usd};
use crate::key::Key;
use crate::wire::{Dialect, Head, Settings};

/// Where a record stands: segment number (from 1) and byte offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(NonZeroU64);

/// Bits of a place that hold the offset: segments of up to a tebibyte.
const OFFSET_BITS: u32 = 40;

impl Place {
    /// Of segment `number` (from 1) and byte `offset`; `None` if they are out of range.
    pub fn new(number: u32, offset: u64) -> Option<Place> {
        let fits = number > 0 && number < 1 << 24 && offset < 1 << OFFSET_BITS;
        let packed = (u64::from(number) << OFFSET_BITS) | offset;
        NonZeroU64::new(packed).filter(|_| fits).map(Place)
    }

    /// The segment's number.
    pub fn number(self) -> u32 {
        (self.0.get() >> OFFSET_BITS) as u32
    }

    /// The byte offset in it.
    pub fn offset(self) -> u64 {
        self.0.get() & ((1 << OFFSET_BITS) - 1)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.number(), self.offset()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Place, D::Error> {
        let (number, offset) = <(u32, u64)>::deserialize(deserializer)?;
        Place::new(number, offset).ok_or_else(|| serde::de::Error::custom("a place out of range"))
    }
}

/// One change of state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "fields that recur are documented at their first use")]
pub enum Event {
    /// A process opened the ledger for writing.
    Session {
        /// Milliseconds since 1970.
        at_ms: u64,
        /// Version of forwhy.
        version: String,
        /// Process and machine.
        pid: u32,
        host: String,
    },
    /// Whom requests are sent to, and how; later events name it by its number.
    Spec {
        /// Its number in this ledger, from 1.
        spec: u16,
        /// What it is.
        says: Box<SpecRecord>,
    },
    /// A request is known: its bytes are stored.
    Planned {
        /// Its content address.
        key: Key,
        spec: u16,
        replicate: u64,
        /// The user's id of the first row that asked for it.
        sample: String,
        /// The bytes that are sent.
        body: Place,
    },
    /// It is about to be sent in a batch; written before the batch is submitted.
    Reserved {
        key: Key,
        /// Our name of the batch.
        batch: String,
        /// The most that it can cost.
        nano_usd: Usd,
    },
    /// It is being sent; written before the first byte leaves, with its reserve.
    Submitted {
        key: Key,
        /// From 1.
        attempt: u16,
        /// Which of the spec's addresses.
        endpoint: u16,
        nano_usd: Usd,
        at_ms: u64,
    },
    /// Its reply is stored, whatever it says.
    Received {
        key: Key,
        attempt: u16,
        /// The bytes that came.
        reply: Place,
        at_ms: u64,
        /// From the first byte sent to the last received.
        millis: u32,
    },
    /// The reply was read, and the attempt settled.
    Judged {
        key: Key,
        attempt: u16,
        verdict: Verdict,
        cost: Cost,
        /// As the provider counts; absent where it did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens: Option<Tokens>,
    },
    /// Stored bytes were read again by another reader, with another result. Costs nothing.
    Reread { key: Key, verdict: Verdict },
    /// An attempt ended without a reply.
    Failed { key: Key, attempt: u16, reason: Reason, detail: String, cost: Cost, millis: u32 },
    /// An attempt was in flight when its process died: whether the provider computed it, and charged
    /// for it, cannot be known. The cost is its reserve. Also: its reply was torn off the bodies by a
    /// crash of the machine; then its cost stands in the states already, and this one is 0.
    Lost { key: Key, attempt: u16, cost: Cost },
    /// A batch; written before it is submitted, then with its provider's id, then at its end.
    Batch(BatchRecord),
    /// A probe of a setting on the wire, and what was seen.
    Checked {
        spec: u16,
        /// The setting.
        setting: String,
        /// Whether the reply proves it.
        proved: bool,
        /// What was seen.
        evidence: String,
    },
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens(pub u64, pub u64);

/// Whom requests are sent to, and how. No secret stands in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecRecord {
    /// What people call it.
    pub name: String,
    /// The language of its servers.
    pub dialect: Dialect,
    /// The effective settings.
    pub settings: Settings,
    /// Which weights answer; part of every key.
    pub identity: String,
    /// Base addresses.
    pub endpoints: Vec<String>,
    /// What its tokens cost, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// A batch of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRecord {
    /// Our name of it, which travels in its metadata where the provider has such.
    pub id: String,
    /// To whom.
    pub spec: u16,
    /// How many requests.
    pub requests: u32,
    /// When this was written.
    pub at_ms: u64,
    /// The provider's name of it, as soon as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// All its answers are in this ledger, or it will never have more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// What a stored reply is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// An answer; how it ended: `complete`, `truncated`, `refused` or `malformed`.
    Accepted(String),
    /// No answer.
    Rejected {
        /// The sort of it.
        reason: Reason,
        /// The server's words, or what is wrong with them.
        detail: String,
    },
}

/// Why an attempt gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "as in wire::Received, where each is documented")]
pub enum Reason {
    Empty,
    WrongServed,
    /// A setting that was asked for did not take effect, as the reply itself shows.
    Unhonoured,
    Malformed,
    RateLimited,
    Overloaded,
    NoCredit,
    Auth,
    BadRequest,
    ContextOverflow,
    Filtered,
    NotFound,
    Server,
    Redirect,
    /// No connection could be made: nothing was sent.
    Connect,
    /// The connection broke after the request was sent.
    Broken,
    /// Nothing came for too long.
    Idle,
    /// The whole took too long.
    Deadline,
    /// The reply is longer than any that is kept.
    TooLong,
    /// The batch ended without this request's answer.
    BatchEnded,
}

impl Reason {
    /// Whether asking again, with the same bytes, is pointless: a second run leaves it alone.
    pub fn is_final(self) -> bool {
        matches!(self, Reason::BadRequest | Reason::ContextOverflow | Reason::Filtered)
    }

    /// The word in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::WrongServed => "wrong_served",
            Reason::Unhonoured => "unhonoured",
            Reason::Malformed => "malformed",
            Reason::RateLimited => "rate_limited",
            Reason::Overloaded => "overloaded",
            Reason::NoCredit => "no_credit",
            Reason::Auth => "auth",
            Reason::BadRequest => "bad_request",
            Reason::ContextOverflow => "context_overflow",
            Reason::Filtered => "filtered",
            Reason::NotFound => "not_found",
            Reason::Server => "server",
            Reason::Redirect => "redirect",
            Reason::Connect => "connect",
            Reason::Broken => "broken",
            Reason::Idle => "idle",
            Reason::Deadline => "deadline",
            Reason::TooLong => "too_long",
            Reason::BatchEnded => "batch_ended",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Bytes that were sent or that came, as they were. Written as [`BodyRef`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "as in Event")]
pub enum Body {
    /// Sent. With all that its `Planned` event says, so that the states can be rebuilt from bodies.
    Request { key: Key, spec: u16, replicate: u64, sample: String, bytes: Bytes },
    /// Came back.
    Reply(Box<Reply>),
}

/// A [`Body`] to be written, without a copy of its bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BodyRef<'a> {
    Request { key: Key, spec: u16, replicate: u64, sample: &'a str, bytes: BytesRef<'a> },
    Reply(&'a Reply),
}

/// A reply as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as in Event")]
pub struct Reply {
    pub key: Key,
    pub attempt: u16,
    pub at_ms: u64,
    pub millis: u32,
    /// Status and headers.
    pub head: Head,
    /// The body. A key of ours in it was struck out.
    pub bytes: Bytes,
}

/// Bytes in JSON: text where they are UTF-8, else hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// Bytes that, escaped as text at six to one, might exceed what a segment reads again.
const SAFE_TEXT_BYTES: usize = 10 << 20;

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BytesRef(&self.0).serialize(serializer)
    }
}

/// [`Bytes`] to be written.
#[derive(Debug)]
pub(super) struct BytesRef<'a>(pub(super) &'a [u8]);

impl Serialize for BytesRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(self.0) {
            Ok(text) if self.0.len() <= SAFE_TEXT_BYTES || !has_controls(self.0) => {
                map.serialize_entry("text", text)?;
            }
            _ => map.serialize_entry("hex", &to_hex(self.0))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Form {
            Text(String),
            Hex(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Bytes(text.into_bytes())),
            Form::Hex(digits) => from_hex(&digits)
                .map(Bytes)
                .ok_or_else(|| serde::de::Error::custom("hexadecimal digits expected")),
        }
    }
}

/// Characters that JSON writes with more than two bytes.
fn has_controls(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| *b < 0x20 && !matches!(b, b'\n' | b'\r' | b'\t'))
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let half = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(half(*high)? << 4 | half(*low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_holds_its_range_and_refuses_more() {
        for (number, offset) in [(1, 0), (7, 123_456), ((1 << 24) - 1, (1 << 40) - 1)] {
            let place = Place::new(number, offset).unwrap();
            assert_eq!((place.number(), place.offset()), (number, offset));
        }
        assert!(Place::new(0, 5).is_none() && Place::new(1 << 24, 0).is_none());
        assert!(Place::new(1, 1 << 40).is_none());
    }

    #[test]
    fn ten_megabytes_of_nul_stay_readable() {
        let bytes = Bytes(vec![0; SAFE_TEXT_BYTES + 1]);
        let json = serde_json::to_string(&bytes).unwrap();
        assert!((json.len() as u64) < forwhy_store::segment::MAX_RECORD_BYTES / 2);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            let json = serde_json::to_string(&Bytes(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().0, bytes);
        }
    }
}
