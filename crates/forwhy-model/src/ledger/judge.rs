//! From a reply to a verdict, a cost and token counts.

use forwhy_core::model::Ended;

use super::event::{Reason, Reply, SpecRecord, Tokens, Verdict};
use crate::budget::price::Price;
use crate::budget::{Cost, Usd};
use crate::check;
use crate::wire::{self, Answer, Received, Settings};

/// Longest detail that is kept in an event; the whole stands in the body.
const MAX_DETAIL_CHARS: usize = 400;

/// What a reply is taken for, and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Answer or not.
    pub verdict: Verdict,
    /// What the attempt cost.
    pub cost: Cost,
    /// Tokens, where the reply says.
    pub tokens: Option<Tokens>,
}

/// Judges stored bytes by the reader of today.
pub fn judge_stored(
    spec: &SpecRecord,
    price: Option<&Price>,
    reserve: Usd,
    reply: &Reply,
) -> Judgement {
    let received = wire::read(spec.dialect, &spec.settings, &reply.head, &reply.bytes.0);
    judge(&received, &spec.settings, price, reserve)
}

/// Judges a reply. Where it was computed and says no usage, or has no price, the cost is the reserve.
pub fn judge(
    received: &Received,
    settings: &Settings,
    price: Option<&Price>,
    reserve: Usd,
) -> Judgement {
    let usage = received.answer().and_then(|answer| answer.usage);
    let cost = match (received.answer(), usage.as_ref(), price) {
        (Some(_), Some(usage), Some(price)) => price.of(usage),
        (Some(_), _, _) => Cost::at_most(reserve),
        (None, _, _) if may_have_been_computed(received) => Cost::at_most(reserve),
        (None, _, _) => Cost::NONE,
    };
    let tokens = usage.map(|u| Tokens(u.prompt_tokens, u.completion_tokens));
    Judgement { verdict: verdict(received, settings), cost, tokens }
}

/// What a reply is taken for.
pub fn verdict(received: &Received, settings: &Settings) -> Verdict {
    match received {
        Received::Answer(answer) => match check::broken_setting(settings, answer) {
            None => Verdict::Accepted(ended(answer).into()),
            Some(detail) => Verdict::Rejected { reason: Reason::Unhonoured, detail },
        },
        other => {
            let (reason, detail) = why(other);
            Verdict::Rejected { reason, detail: detail.chars().take(MAX_DETAIL_CHARS).collect() }
        }
    }
}

/// How an answer ended, in a word.
fn ended(answer: &Answer) -> &'static str {
    match answer.ended {
        Ended::Complete => "complete",
        Ended::Truncated => "truncated",
        Ended::Refused { .. } => "refused",
        Ended::Malformed { .. } => "malformed",
    }
}

/// The reason in a reply that is no answer, and its words.
fn why(received: &Received) -> (Reason, String) {
    let words = |message: &String| message.clone();
    match received {
        Received::Answer(_) => (Reason::Malformed, "an answer".into()),
        Received::Empty(answer) => match &answer.ended {
            Ended::Malformed { why } => (Reason::Empty, why.clone()),
            _ => (Reason::Empty, "the reply is empty".into()),
        },
        Received::WrongServed { what, asked, seen, .. } => {
            let seen = seen.as_deref().unwrap_or("nobody in particular");
            (Reason::WrongServed, format!("asked {what} {asked:?}, {seen:?} answered"))
        }
        Received::Malformed { why } => (Reason::Malformed, why.clone()),
        Received::RateLimited { message, .. } => (Reason::RateLimited, words(message)),
        Received::Overloaded { message, .. } => (Reason::Overloaded, words(message)),
        Received::NoCredit { message } => (Reason::NoCredit, words(message)),
        Received::Auth { status, message } => (Reason::Auth, format!("{status}: {message}")),
        Received::BadRequest { status, message } => {
            (Reason::BadRequest, format!("{status}: {message}"))
        }
        Received::ContextOverflow { message } => (Reason::ContextOverflow, words(message)),
        Received::Filtered { message } => (Reason::Filtered, words(message)),
        Received::NotFound { message } => (Reason::NotFound, words(message)),
        Received::Server { status, message } => (Reason::Server, format!("{status}: {message}")),
        Received::Redirect { status, location } => {
            let to = location.as_deref().unwrap_or("nowhere");
            (Reason::Redirect, format!("{status}: points to {to}; not followed"))
        }
    }
}

/// Whether a reply without an answer may stand for work that is charged.
fn may_have_been_computed(received: &Received) -> bool {
    match received {
        Received::Malformed { .. } => true,
        Received::Server { status, .. } => *status < 500,
        _ => false,
    }
}
