//! What can go wrong, and when it does.

use serde::{Deserialize, Serialize};

use super::http::Response;
use super::reply::{self, Kind};

/// Something that goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// 429, with this header `retry-after`, if any.
    RateLimit {
        /// Sent as it stands.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 503 or 529.
    Overload {
        /// HTTP status.
        status: u16,
    },
    /// An overload inside a success; in a stream after half of it.
    OverloadInside,
    /// Any error.
    Status {
        /// HTTP status.
        code: u16,
        /// What the error says.
        #[serde(default)]
        message: String,
    },
    /// The request is taken and never answered.
    NeverAnswer,
    /// Half of the reply comes, then nothing more.
    StallMidBody,
    /// The reply comes byte by byte.
    Trickle {
        /// Milliseconds from byte to byte.
        ms: u64,
    },
    /// The connection is reset when the whole request has come.
    ResetAfterRequest,
    /// It is reset when half of the reply is sent.
    ResetMidBody,
    /// It is closed, in good order, when half of the reply is sent.
    CloseMidBody,
    /// Bytes that are no HTTP.
    NotHttp,
    /// A page of a proxy instead of a reply, as a success.
    Html,
    /// Half of the JSON, as a success of full length.
    TruncatedJson,
    /// No choices, or no content blocks.
    EmptyChoices,
    /// A reply without text.
    EmptyContent,
    /// Thoughts without an answer.
    ThoughtsOnly,
    /// Another model's name.
    WrongModel {
        /// It.
        model: String,
    },
    /// Another provider's name (OpenRouter).
    WrongProvider {
        /// It.
        provider: String,
    },
    /// This reason for the end.
    Finish {
        /// In the words of the dialect, e.g. `length`.
        reason: String,
    },
    /// A refusal in the field for it.
    Refusal,
    /// No count of tokens.
    NoUsage,
    /// Half of a surrogate pair in the text.
    LoneSurrogate,
    /// A NUL in the text.
    Nul,
    /// A key that stands twice.
    DuplicateKeys,
    /// Log-probabilities that are no numbers.
    NanLogprob,
    /// A text of this length.
    Huge {
        /// Bytes.
        bytes: usize,
    },
    /// A field with nested lists.
    Deep {
        /// How deep.
        depth: usize,
    },
    /// A redirect.
    Redirect {
        /// To this address.
        to: String,
    },
    /// A 401 that repeats the key it was sent.
    EchoKey,
    /// A batch is taken, and the connection reset instead of the reply.
    LoseSubmitReply,
}

/// How a response goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Never,
    StallAtHalf,
    Trickle { ms: u64 },
    ResetBefore,
    ResetAtHalf,
    CloseAtHalf,
    NotHttp,
}

impl Fault {
    /// Its name, as scripts and counts have it.
    pub(super) fn name(&self) -> String {
        let name = match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(tagged)) => {
                tagged.into_iter().next().map(|(name, _)| name)
            }
            Ok(serde_json::Value::String(name)) => Some(name),
            _ => None,
        };
        name.unwrap_or_default()
    }

    pub(super) fn delivery(&self) -> Delivery {
        match self {
            Fault::NeverAnswer => Delivery::Never,
            Fault::StallMidBody => Delivery::StallAtHalf,
            Fault::Trickle { ms } => Delivery::Trickle { ms: *ms },
            Fault::ResetAfterRequest | Fault::LoseSubmitReply => Delivery::ResetBefore,
            Fault::ResetMidBody => Delivery::ResetAtHalf,
            Fault::CloseMidBody => Delivery::CloseAtHalf,
            Fault::NotHttp => Delivery::NotHttp,
            _ => Delivery::Whole,
        }
    }

    /// The response that stands in for the reply, if the fault is of that sort. `key` is the one that
    /// came with the request.
    pub(super) fn instead(&self, kind: Kind, key: Option<&str>) -> Option<Response> {
        Some(match self {
            Fault::RateLimit { retry_after } => {
                let mut response = reply::error(kind, 429, "rate_limit_exceeded", "slow down");
                response.headers.extend(retry_after.clone().map(|wait| ("retry-after", wait)));
                response
            }
            Fault::Overload { status } => {
                reply::error(kind, *status, "overloaded_error", "overloaded")
            }
            Fault::Status { code, message } => reply::error(kind, *code, "error", message),
            Fault::EchoKey => {
                let message = format!("Incorrect API key provided: {}", key.unwrap_or("none"));
                reply::error(kind, 401, "invalid_api_key", &message)
            }
            Fault::Html => Response::new(200, "text/html", "<html><h1>502 Bad Gateway</h1></html>"),
            Fault::Redirect { to } => {
                let mut response = Response::json(307, "{}");
                response.headers.push(("location", to.clone()));
                response
            }
            _ => return None,
        })
    }
}

/// When a fault strikes. All that is said must fit; the first rule that fits is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// In this share of the requests, drawn for each.
    #[serde(default = "always")]
    pub share: f64,
    /// Only the first so many times that the same body comes.
    #[serde(default)]
    pub first_times: Option<u32>,
    /// Only from this request on, counted from 0 by arrival.
    #[serde(default)]
    pub from: Option<u64>,
    /// Only before this request.
    #[serde(default)]
    pub to: Option<u64>,
    /// Only where the body holds this text.
    #[serde(default)]
    pub when: Option<String>,
}

fn always() -> f64 {
    1.0
}

impl FaultRule {
    /// The fault, each time.
    pub fn always(fault: Fault) -> Self {
        FaultRule { fault, share: 1.0, first_times: None, from: None, to: None, when: None }
    }

    /// The fault, the first `times` times that a body comes.
    pub fn first_times(fault: Fault, times: u32) -> Self {
        FaultRule { first_times: Some(times), ..FaultRule::always(fault) }
    }

    /// The fault, in a share of the requests.
    pub fn share(fault: Fault, share: f64) -> Self {
        FaultRule { share, ..FaultRule::always(fault) }
    }

    /// Whether it strikes request `number`, whose `body` came `times` times before; `draw` is
    /// uniform in [0, 1).
    pub(super) fn strikes(&self, number: u64, times: u32, body: &[u8], draw: f64) -> bool {
        self.first_times.is_none_or(|first| times < first)
            && self.from.is_none_or(|from| number >= from)
            && self.to.is_none_or(|to| number < to)
            && draw < self.share
            && self.when.as_deref().is_none_or(|text| holds(body, text.as_bytes()))
    }
}

fn holds(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}
