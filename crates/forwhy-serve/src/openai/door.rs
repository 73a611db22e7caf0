//! Who may come in, and how much he may bring.
//!
//! A server on loopback is open to every program of the machine, and through the browser to every web
//! page: so the `Host` header must name this server (a foreign name is DNS rebinding), and a request
//! that a browser marks as coming from another site is refused. Elsewhere a token is demanded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use super::{Ours, Shared};

/// Characters of a token, at least.
pub const LEAST_TOKEN: usize = 16;
/// A body that is too large is read (and thrown away) up to so many times the limit, so that its
/// sender gets to read the refusal.
const DRAINED: usize = 32;

/// The rules of the door.
pub(super) struct Door {
    /// Hash of the token: comparing hashes takes no longer for a better guess.
    token: Option<blake3::Hash>,
    names: Vec<String>,
}

impl Door {
    /// None if others could come in without a token.
    pub(super) fn new(
        address: SocketAddr,
        token: Option<String>,
        names: &[String],
    ) -> Option<Self> {
        let good = token.as_ref().is_some_and(|token| token.len() >= LEAST_TOKEN);
        if !good && (token.is_some() || !address.ip().is_loopback()) {
            return None;
        }
        let own = ["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
        let bound = address.ip().to_string();
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        let names = own.into_iter().chain([bound]).chain(names).collect();
        let token = token.map(|token| blake3::hash(token.as_bytes()));
        Some(Door { token, names })
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").map(bare_host).unwrap_or_default();
        // With a token an address is as good as a name: a rebinding page does not know the token.
        let known =
            self.names.contains(&host) || self.token.is_some() && host.parse::<IpAddr>().is_ok();
        if !known {
            let why = "the Host header names another server; start this one with that --host-name";
            return Err(Refusal::forbidden(why));
        }
        let foreign = text("sec-fetch-site").is_some_and(|s| !["same-origin", "none"].contains(&s));
        if foreign && method != Method::GET {
            return Err(Refusal::forbidden("requests from web pages of other sites are refused"));
        }
        match &self.token {
            Some(token) if path != "/health" => {
                let given = text(header::AUTHORIZATION.as_str());
                let given = given.and_then(|value| value.strip_prefix("Bearer "));
                let same = given.is_some_and(|given| blake3::hash(given.as_bytes()) == *token);
                if same { Ok(()) } else { Err(Refusal::no_token()) }
            }
            _ => Ok(()),
        }
    }
}

/// The host without its port, in lower case.
fn bare_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if let Some((inside, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside.into();
    }
    host.split_once(':').map_or(host.as_str(), |(name, _)| name).into()
}

/// Lets a request in or refuses it.
pub(super) async fn check(State(shared): Ours, request: Request, next: Next) -> Response {
    let door = &shared.door;
    match door.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// A body as `T`.
pub(super) async fn read<T: DeserializeOwned>(
    shared: &Arc<Shared>,
    body: Body,
) -> Result<T, Refusal> {
    let settings = &shared.settings;
    let (mut stream, mut bytes, mut seen) = (body.into_data_stream(), Vec::new(), 0usize);
    let most = settings.max_body_bytes;
    loop {
        let next = tokio::time::timeout(settings.stall, stream.next()).await;
        let Some(part) = next.map_err(|_elapsed| Refusal::too_slow())? else { break };
        let part = part.map_err(|e| Refusal::body(format!("the body did not come: {e}")))?;
        seen += part.len();
        if seen <= most {
            bytes.extend_from_slice(&part);
        } else if seen > most.saturating_mul(DRAINED) {
            break;
        }
    }
    if seen > most {
        return Err(Refusal::too_large(most));
    }
    parse(&bytes)
}

/// JSON bytes as `T`; the refusal names the field at fault.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Refusal::body(format!("the body is not UTF-8: byte {} is wrong", e.valid_up_to()))
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let read: Result<T, _> = serde_path_to_error::deserialize(&mut json);
    let value = read.map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner().to_string());
        let unknown = why.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        match (unknown, path.as_str()) {
            (Some((field, _)), "." | "?") => Refusal::field(field, why.clone()),
            (_, "." | "?") => Refusal::body(format!("the body is not a request: {why}")),
            (_, path) => Refusal::field(path, why),
        }
    })?;
    json.end().map_err(|e| Refusal::body(format!("more than one JSON value: {e}")))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_model::wire::openai::ChatRequest;

    const TOKEN: &str = "0123456789abcdef";

    fn door(address: &str, token: Option<&str>) -> Option<Door> {
        Door::new(address.parse().unwrap(), token.map(String::from), &["Box.Lan".into()])
    }

    /// The status for a request with these headers; 200 if it may come in.
    fn status(door: &Door, method: &Method, headers: &[(&'static str, &str)]) -> u16 {
        let all = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
        let checked = door.check(method, "/v1/models", &all.collect());
        checked.map_or_else(|refusal| refusal.status, |()| 200)
    }

    #[test]
    fn fault_37_who_can_be_reached_from_outside_needs_a_token() {
        assert!(door("0.0.0.0:80", None).is_none());
        assert!(door("192.168.1.2:80", Some("short")).is_none());
        assert!(door("127.0.0.1:80", None).is_some() && door("[::1]:80", None).is_some());
        let door = door("0.0.0.0:80", Some(TOKEN)).unwrap();
        let bearer = format!("Bearer {TOKEN}");
        let with = |host, token: &str| {
            status(&door, &Method::POST, &[("host", host), ("authorization", token)])
        };
        assert_eq!(with("box.lan:80", &bearer), 200);
        assert_eq!(with("192.168.1.2", &bearer), 200);
        assert_eq!(with("evil.example", &bearer), 403);
        assert_eq!(with("box.lan", "Bearer 0123456789abcdeX"), 401);
        assert_eq!(status(&door, &Method::GET, &[("host", "box.lan")]), 401);
    }

    #[test]
    fn fault_37_rebound_names_and_foreign_pages_are_refused() {
        let door = door("127.0.0.1:8000", None).unwrap();
        for (host, want) in [
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:8000", 200),
            ("BOX.lan", 200),
            ("evil.example:8000", 403),
            ("192.168.1.2", 403),
        ] {
            assert_eq!(status(&door, &Method::GET, &[("host", host)]), want, "{host}");
        }
        assert_eq!(status(&door, &Method::GET, &[]), 403);
        let from = |method: &Method, site: &str| {
            status(&door, method, &[("host", "localhost"), ("sec-fetch-site", site)])
        };
        assert_eq!(
            (from(&Method::POST, "cross-site"), from(&Method::POST, "same-site")),
            (403, 403)
        );
        assert_eq!(
            (from(&Method::POST, "same-origin"), from(&Method::GET, "cross-site")),
            (200, 200)
        );
    }

    #[test]
    fn what_is_wrong_with_a_body_is_named() {
        let refused = |bytes: &[u8]| {
            let refusal = parse::<ChatRequest>(bytes).unwrap_err();
            (refusal.detail.param.clone().unwrap_or_default(), refusal.detail.message)
        };
        let with = |more: &str| format!("{{\"model\": \"m\", \"messages\": [], {more}}}");
        for (more, field) in [
            ("\"top_a\": 1", "top_a"),
            ("\"max_tokens\": -1", "max_tokens"),
            ("\"max_tokens\": 1.5", "max_tokens"),
            ("\"temperature\": \"hot\"", "temperature"),
            ("\"stop\": 3", "stop"),
            ("\"n\": 99999999999", "n"),
        ] {
            assert_eq!(refused(with(more).as_bytes()).0, field);
        }
        assert!(refused(b"{\"model\": \"\xff\"}").1.contains("byte 11"));
        assert!(refused(b"").1.contains("EOF"));
        let deep = with(&format!("\"metadata\": {{\"a\": {}", "[".repeat(100_000)));
        assert!(refused(deep.as_bytes()).1.contains("recursion limit"));
        assert!(refused(b"{\"model\":\"m\",\"messages\":[]} {}").1.contains("more than one"));
    }
}
