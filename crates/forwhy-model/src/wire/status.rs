//! Replies that are no success: by status, and by what the error says of itself.
//!
//! Some hosts send errors inside a success; they are read in the same way, with the status that
//! their code stands for.

use serde_json::Value;

use super::json;
use super::received::{Head, Received};

/// Longest text of a server that is kept in an outcome. The bytes are kept elsewhere.
const MAX_MESSAGE_CHARS: usize = 600;

/// What a server says of its error.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// `type` and `code`, in lower case.
    words: Vec<String>,
    /// A code that is a number, or stands for one.
    code: Option<u16>,
}

/// A reply whose status is not 200.
pub(super) fn read(head: &Head, bytes: &[u8]) -> Received {
    if (300..400).contains(&head.status) {
        return Received::Redirect { status: head.status, location: head.location.clone() };
    }
    if head.status < 400 {
        let why = format!("status {} is no success of this interface", head.status);
        return Received::Malformed { why };
    }
    let said = match json::parse(bytes) {
        Ok(parsed) => said(&parsed.value),
        Err(_) => Said { message: shortened(&String::from_utf8_lossy(bytes)), ..Said::default() },
    };
    classify(head.status, head, said)
}

/// An error inside a success, if `value` is one: `{"error": ...}`, `{"type": "error", ...}` or
/// vLLM's `{"object": "error", ...}`.
pub(super) fn inside_success(head: &Head, value: &Value) -> Option<Received> {
    let named = |key: &str| value.get(key).and_then(Value::as_str) == Some("error");
    let error = value.get("error").filter(|e| !e.is_null()).is_some();
    if !error && !named("type") && !named("object") {
        return None;
    }
    let said = said(value);
    let status = said.code.filter(|c| (400..600).contains(c)).or_else(|| by_word(&said.words));
    Some(classify(status.unwrap_or(500), head, said))
}

/// The status that an error's own words stand for.
fn by_word(words: &[String]) -> Option<u16> {
    let table: [(&[&str], u16); 10] = [
        (&["overloaded_error", "overloaded", "engine_overloaded_error"], 529),
        (&["rate_limit_error", "rate_limit_exceeded", "too_many_requests"], 429),
        (&["insufficient_quota", "billing_error", "insufficient_credits"], 402),
        (&["authentication_error", "invalid_api_key"], 401),
        (&["permission_error"], 403),
        (&["not_found_error", "model_not_found"], 404),
        (&["request_too_large"], 413),
        (&["invalid_request_error", "badrequesterror", "context_length_exceeded"], 400),
        (&["timeout_error"], 504),
        (&["api_error", "server_error", "internal_error"], 500),
    ];
    let fits = |(names, _): &&(&[&str], u16)| words.iter().any(|w| names.contains(&w.as_str()));
    table.iter().find(fits).map(|(_, status)| *status)
}

/// Message, sort and code, wherever the server puts them.
fn said(value: &Value) -> Said {
    let error = value.get("error").filter(|e| !e.is_null()).unwrap_or(value);
    let message = match error {
        Value::String(text) => text.clone(),
        _ => match error.get("message").or_else(|| error.get("detail")) {
            Some(Value::String(text)) => text.clone(),
            _ => error.to_string(),
        },
    };
    let mut words = Vec::new();
    for key in ["type", "code"] {
        words.extend(error.get(key).and_then(Value::as_str).map(str::to_ascii_lowercase));
    }
    // Routers put the words of the provider behind them here.
    let raw = error.pointer("/metadata/raw").and_then(Value::as_str);
    let message =
        [Some(message.as_str()), raw].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let code = error.get("code").and_then(|code| match code {
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    Said { message: shortened(&message), words, code }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.trim().chars().take(MAX_MESSAGE_CHARS).collect();
    if short.len() < text.trim().len() {
        short.push_str(" ...");
    }
    short
}

fn classify(status: u16, head: &Head, said: Said) -> Received {
    let text = said.message.to_ascii_lowercase();
    let speaks = |signs: &[&str]| {
        signs.iter().any(|s| text.contains(s) || said.words.iter().any(|w| w.contains(s)))
    };
    let message = said.message.clone();
    if status == 402 || (400..430).contains(&status) && speaks(&NO_CREDIT) {
        return Received::NoCredit { message };
    }
    if matches!(status, 400 | 403 | 422) && speaks(&FILTERED) {
        return Received::Filtered { message };
    }
    if matches!(status, 400 | 413 | 422) && speaks(&TOO_LONG) {
        return Received::ContextOverflow { message };
    }
    let overload = matches!(status, 429 | 500) && speaks(&["overloaded", "over capacity"]);
    if matches!(status, 498 | 503 | 529) || overload {
        return Received::Overloaded { retry_after: wait(head), message };
    }
    match status {
        429 => Received::RateLimited { retry_after: wait(head), message },
        401 | 403 => Received::Auth { status, message },
        404 => Received::NotFound { message },
        408 | 409 | 425 | 500.. => Received::Server { status, message },
        _ => Received::BadRequest { status, message },
    }
}

const NO_CREDIT: [&str; 5] = [
    "insufficient_quota",
    "billing_hard_limit",
    "credit balance is too low",
    "insufficient credits",
    "billing_error",
];

const FILTERED: [&str; 9] = [
    "content_filter",
    "content_policy",
    "content management policy",
    "content filtering policy",
    "responsibleai",
    "requires moderation",
    "input was flagged",
    "data_inspection_failed",
    "violating our usage policy",
];

const TOO_LONG: [&str; 9] = [
    "context_length_exceeded",
    "context length",
    "context window",
    "prompt is too long",
    "input is too long",
    "longer than the maximum model length",
    "max_model_len",
    "reduce the length",
    "do not fit into the model",
];

/// `retry-after-ms` in seconds where it is a number, else `retry-after` as it came.
fn wait(head: &Head) -> Option<String> {
    let ms = head.retry_after_ms.as_deref().and_then(|ms| ms.trim().parse::<f64>().ok());
    match ms.filter(|ms| ms.is_finite() && *ms >= 0.0) {
        Some(ms) => Some(format!("{}", ms / 1000.0)),
        None => head.retry_after.clone(),
    }
}
