//! Which weights answer behind a name. Part of every key, so that answers of one checkpoint are never
//! taken for those of another that is served under the same name later.
//!
//! In this order: the hash of the weights that `forwhy serve` reports; else the revision that the
//! user declares, with what the server reports of the model; on the host of a dialect itself, the
//! model's name.

use std::time::Duration;

use serde_json::Value;

use crate::client::exchange::{Exchange, Sent};
use crate::endpoint::{Endpoint, Target};

/// Fields of an entry of `GET models` that tell models apart.
const TELLING: [&str; 3] = ["root", "parent", "weights_hash"];

/// The weights cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The server did not say which models it has.
    #[error("cannot ask {address} which models it has: {why}")]
    Unreachable {
        /// The base address.
        address: String,
        /// What happened.
        why: String,
    },
    /// It does not have the model.
    #[error("{address} does not have the model {model:?}; it has {has}")]
    NoSuchModel {
        /// The base address.
        address: String,
        /// The name asked for.
        model: String,
        /// The names it has.
        has: String,
    },
    /// Two addresses have different weights under one name.
    #[error("{first} and {second} serve different weights as {model:?}: {one} and {other}")]
    Differ {
        /// The name.
        model: String,
        /// One address.
        first: String,
        /// Its weights.
        one: String,
        /// Another address.
        second: String,
        /// Its weights.
        other: String,
    },
    /// Nothing proves the weights, and the user did not say.
    #[error(
        "{address} does not say which weights it serves as {model:?}; say it with --revision (a \
         checkpoint's name or hash), so that its answers are never taken for another checkpoint's"
    )]
    Undeclared {
        /// The base address.
        address: String,
        /// The name.
        model: String,
    },
}

/// The identity of what answers for `target`. Asks each address once, unless it is a dialect's host.
pub async fn of(target: &Target, exchange: &Exchange) -> Result<String, IdentityError> {
    let spec = &target.spec;
    let model = spec.settings.model.as_str();
    if target.is_hosted {
        return Ok(format!("declared:{}", spec.revision.as_deref().unwrap_or(model)));
    }
    let mut seen: Option<(&Endpoint, String)> = None;
    for endpoint in &target.endpoints {
        let identity = of_endpoint(endpoint, model, spec.revision.as_deref(), exchange).await?;
        match &seen {
            None => seen = Some((endpoint, identity)),
            Some((first, one)) if *one != identity => {
                return Err(IdentityError::Differ {
                    model: model.into(),
                    first: first.base().into(),
                    one: one.clone(),
                    second: endpoint.base().into(),
                    other: identity,
                });
            }
            Some(_) => {}
        }
    }
    let undeclared = || IdentityError::Undeclared { address: String::new(), model: model.into() };
    seen.map(|(_, identity)| identity).ok_or_else(undeclared)
}

async fn of_endpoint(
    endpoint: &Endpoint,
    model: &str,
    revision: Option<&str>,
    exchange: &Exchange,
) -> Result<String, IdentityError> {
    let address = endpoint.base().to_string();
    let entry = model_entry(endpoint, model, exchange).await?;
    let told = |field: &str| entry.as_ref().and_then(|e| e.get(field)?.as_str().map(String::from));
    if let Some(hash) = told("weights_hash") {
        return Ok(format!("weights:{hash}"));
    }
    let revision =
        revision.ok_or_else(|| IdentityError::Undeclared { address, model: model.into() })?;
    let reported: Vec<String> =
        TELLING.iter().filter_map(|f| told(f).map(|v| format!(" {f}={v}"))).collect();
    Ok(format!("declared:{revision}{}", reported.concat()))
}

/// The server's entry of `model`; `None` if it has no list of models.
async fn model_entry(
    endpoint: &Endpoint,
    model: &str,
    exchange: &Exchange,
) -> Result<Option<Value>, IdentityError> {
    let unreachable =
        |why: String| IdentityError::Unreachable { address: endpoint.base().into(), why };
    let mut tries = 0;
    let arrived = loop {
        tries += 1;
        match exchange.get(endpoint, "models").await {
            Sent::Arrived(arrived) if arrived.head.status < 500 || tries == 3 => break arrived,
            Sent::Broken(broken) if tries == 3 => return Err(unreachable(broken.detail)),
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    };
    match arrived.head.status {
        200 => {}
        404 | 405 | 501 => return Ok(None),
        status => return Err(unreachable(format!("it answers with status {status}"))),
    }
    let list: Value =
        serde_json::from_slice(&arrived.bytes).map_err(|e| unreachable(format!("no JSON: {e}")))?;
    let Some(entries) = list.get("data").and_then(Value::as_array) else { return Ok(None) };
    let id = |entry: &Value| entry.get("id").and_then(Value::as_str).map(String::from);
    if let Some(entry) = entries.iter().find(|e| id(e).as_deref() == Some(model)) {
        return Ok(Some(entry.clone()));
    }
    let has: Vec<String> = entries.iter().filter_map(id).take(20).collect();
    Err(IdentityError::NoSuchModel {
        address: endpoint.base().into(),
        model: model.into(),
        has: if has.is_empty() { "none".into() } else { has.join(", ") },
    })
}
