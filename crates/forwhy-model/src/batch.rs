//! Requests in batches: cheaper, answered within a day, and sharing answers with online requests.
//!
//! 1. Batches of earlier runs come first. One whose submit reply was lost is looked for on the
//!    provider's side ([`find`]) before anything is sent again: by its metadata where there is such
//!    (OpenAI), else by its size and the requests in its results (Anthropic).
//! 2. What is not answered then is cut into batches. A batch and its requests are written down, and
//!    on the disk, before it is submitted; the provider's name of it as soon as it is known.
//! 3. Batches are polled until they end; each row of results is stored and judged like a reply.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use crate::budget::price::{self, Price};
use crate::budget::{Cost, Usd};
use crate::client::exchange::{Arrived, Load, Sent};
use crate::client::many::{Sums, Terms};
use crate::client::{Ask, Client, Stopped};
use crate::key::Key;
use crate::ledger::event::{BatchRecord, Reason, Verdict};
use crate::ledger::index::State;
use crate::ledger::judge;
use crate::ledger::{Failure, Submission};
use crate::limit::backoff;
use crate::progress::{Event, Tick};
use crate::wire::batch::{self as wire_batch, Batch, Progress};
use crate::wire::{self, Dialect};

/// Requests and bytes of a batch at most; below the limits of both providers.
const MOST: (usize, usize) = (10_000, 90 << 20);
/// The name in the metadata under which a batch bears our id.
const METADATA: &str = "forwhy_batch";
/// Waits between polls: the first, and the longest.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Tries of one call of the batch interface.
const TRIES: u32 = 5;
/// Looks for a lost batch before it is taken for never submitted: a list may lag behind.
const LOOKS: u32 = 3;

/// A call of the batch interface that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the batch interface of {model} failed while {doing}: {why}; the batch is in the ledger, and the same command goes on from here"
)]
pub struct BatchError {
    /// The model.
    pub model: String,
    /// What was tried.
    pub doing: &'static str,
    /// What happened.
    pub why: String,
}

/// Answers all of `asks` in batches, and waits for them.
pub async fn answer_all<E>(client: &Client, terms: &Terms<'_>, asks: Vec<Ask>) -> Result<Sums, E> {
    let mut sums = Sums::default();
    let work = Work { client, terms, price: batch_price(client) };
    if let Err(stopped) = work.all(&asks).await {
        sums.stopped = Some(stopped);
    }
    let mut last = Tick { total: terms.total, ..Tick::default() };
    for ask in &asks {
        match client.outcome(&ask.key) {
            Ok(Some(Ok(_))) => last.answered += 1,
            Ok(Some(Err(refusal))) => {
                last.rejected += 1;
                *sums.refusals.entry(refusal.reason).or_default() += 1;
            }
            Ok(None) => {}
            Err(stopped) => {
                sums.stopped.get_or_insert(stopped);
            }
        }
    }
    last.done = last.answered + last.rejected;
    last.spent = client.budget().spent();
    sums.last = last;
    Ok(sums)
}

fn batch_price(client: &Client) -> Option<Price> {
    let host = client.target().endpoints.first()?.host();
    client.record().price.as_ref().map(|price| price.in_batch(price::batch_share(&host)))
}

struct Work<'a> {
    client: &'a Client,
    terms: &'a Terms<'a>,
    price: Option<Price>,
}

impl Work<'_> {
    async fn all(&self, asks: &[Ask]) -> Result<(), Stopped> {
        let dialect = self.client.record().dialect;
        if !wire_batch::speaks(dialect) {
            let why = format!("the dialect {} has no batch interface", dialect.as_str());
            return Err(self.failed("choosing an interface", why));
        }
        let mut open = Vec::new();
        let spec = self.client.spec_number()?;
        for batch in self.client.ledger().open_batches().into_iter().filter(|b| b.spec == spec) {
            open.extend(self.take_up(batch).await?);
        }
        let reserved: BTreeSet<Key> =
            self.client.ledger().keys_in(State::Reserved).into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut fresh = Vec::new();
        for ask in asks {
            let is_new = seen.insert(ask.key) && !reserved.contains(&ask.key);
            if is_new && self.client.stored(&ask.key)?.is_none() {
                fresh.push(ask);
            }
        }
        for part in parts(&fresh) {
            if !(self.terms.go_on)() {
                return Err(Stopped::OnRequest);
            }
            open.push(self.submit(spec, part).await?);
        }
        self.wait_for(open).await
    }

    /// A batch of an earlier run: with its provider's id, or `None` if it was never submitted.
    async fn take_up(&self, mut batch: BatchRecord) -> Result<Option<BatchRecord>, Stopped> {
        let reserve = self.keys_of(&batch).iter().map(|(_, worst)| *worst).sum();
        self.client.budget().reserve(reserve).await?;
        if batch.provider_id.is_some() {
            return Ok(Some(batch));
        }
        batch.provider_id = self.find(&batch).await?;
        if batch.provider_id.is_some() {
            self.note(&batch, "found again")?;
            return Ok(Some(batch));
        }
        self.note(&batch, "was never submitted")?;
        self.end(batch, "it was never submitted", Cost::NONE)?;
        Ok(None)
    }

    /// Requests of a batch that wait for its answers, with what each may cost.
    fn keys_of(&self, batch: &BatchRecord) -> Vec<(Key, Usd)> {
        self.client.ledger().reserved_in(&batch.id)
    }

    async fn submit(&self, spec: u16, part: &[&Ask]) -> Result<BatchRecord, Stopped> {
        let worst = |ask: &Ask| {
            self.price.as_ref().map_or(Usd(0), |p| p.worst(ask.body.len(), ask.max_tokens))
        };
        self.client.budget().reserve(part.iter().map(|ask| worst(ask)).sum()).await?;
        let at_ms = self.client.now_ms();
        let id = name_of(part, at_ms);
        let requests = part.len() as u32;
        let mut batch = BatchRecord { id, spec, requests, at_ms, provider_id: None, ended: false };
        let items: Vec<Submission> = part
            .iter()
            .map(|ask| Submission {
                key: ask.key,
                spec,
                replicate: ask.replicate,
                sample: &ask.sample,
                body: &ask.body,
                reserve: worst(ask),
            })
            .collect();
        self.client.ledger().reserve(&batch, &items)?;
        let sent = self.send(&batch, part).await;
        batch.provider_id = match sent {
            Ok(id) => Some(id),
            // The reply was lost or cannot be read: perhaps it was submitted all the same.
            Err(error) => match self.find(&batch).await? {
                Some(id) => Some(id),
                None => {
                    self.end(batch, "it was not submitted", Cost::NONE)?;
                    return Err(error);
                }
            },
        };
        self.note(&batch, "submitted")?;
        Ok(batch)
    }

    /// Submits and gives the provider's id. Never tries twice: a lost reply is looked for instead.
    async fn send(&self, batch: &BatchRecord, part: &[&Ask]) -> Result<String, Stopped> {
        let dialect = self.client.record().dialect;
        let bodies = part.iter().map(|ask| {
            let body: Result<Value, _> = serde_json::from_slice(&ask.body);
            body.map(|body| (ask.key.to_string(), body))
        });
        let bodies = bodies.collect::<Result<Vec<_>, _>>();
        let bodies = bodies.map_err(|e| self.failed("putting it together", e.to_string()))?;
        let rows = bodies.iter().map(|(id, body)| (id.as_str(), body));
        let submission = if dialect == Dialect::Anthropic {
            wire_batch::anthropic_submission(rows)
        } else {
            let file = self.upload(&batch.id, &wire_batch::openai_file(rows)).await?;
            let metadata = BTreeMap::from([(METADATA.to_string(), batch.id.clone())]);
            wire_batch::openai_submission(&file, &metadata)
        };
        let bytes = Bytes::from(submission.to_string());
        let path = wire_batch::path(dialect);
        let arrived = self.once("submitting", Method::POST, path, Load::Json(&bytes)).await?;
        let read = wire_batch::read_batch(dialect, &arrived.bytes);
        Ok(read.map_err(|e| self.failed("submitting", e.to_string()))?.id)
    }

    async fn upload(&self, name: &str, file: &[u8]) -> Result<String, Stopped> {
        let boundary = blake3::hash(file).to_hex();
        let (content_type, body) =
            wire_batch::openai_upload(&format!("{name}.jsonl"), &boundary, file);
        let bytes = Bytes::from(body);
        let doing = "uploading its requests";
        for tries in 1..=TRIES {
            let bytes = bytes.clone();
            let load = Load::Other { content_type: &content_type, bytes };
            // A file that was uploaded twice costs nothing.
            match self.once(doing, Method::POST, "files", load).await {
                Ok(arrived) => {
                    let id = wire_batch::read_file_id(&arrived.bytes);
                    return id.map_err(|e| self.failed(doing, e.to_string()));
                }
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(500 << tries)).await,
            }
        }
        Err(self.failed(doing, "no try was made".into()))
    }

    /// The provider's id of a batch whose submit reply did not reach us, if it was submitted.
    async fn find(&self, batch: &BatchRecord) -> Result<Option<String>, Stopped> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            for candidate in self.list().await? {
                if self.is_ours(batch, &candidate).await? {
                    return Ok(Some(candidate.id));
                }
            }
        }
        Ok(None)
    }

    async fn is_ours(&self, batch: &BatchRecord, candidate: &Batch) -> Result<bool, Stopped> {
        if self.client.record().dialect != Dialect::Anthropic {
            return Ok(candidate.metadata.get(METADATA) == Some(&batch.id));
        }
        let known = self.client.ledger().open_batches();
        let is_known = known.iter().any(|b| b.provider_id.as_ref() == Some(&candidate.id));
        if is_known || candidate.requests.is_some_and(|n| n != u64::from(batch.requests)) {
            return Ok(false);
        }
        // Only its results say which requests are in it.
        let ended = self.ended(&candidate.id).await?;
        let keys: BTreeSet<String> =
            self.keys_of(batch).iter().map(|(key, _)| key.to_string()).collect();
        let rows = self.rows_of(&ended).await?;
        Ok(rows.iter().any(|row| keys.contains(&row.custom_id)))
    }

    async fn list(&self) -> Result<Vec<Batch>, Stopped> {
        let dialect = self.client.record().dialect;
        let base = wire_batch::path(dialect);
        let after = if dialect == Dialect::Anthropic { "after_id" } else { "after" };
        let (mut all, mut path) = (Vec::new(), format!("{base}?limit=100"));
        loop {
            let arrived = self.get("listing batches", &path).await?;
            let list = wire_batch::read_list(dialect, &arrived.bytes);
            let (batches, next) =
                list.map_err(|e| self.failed("listing batches", e.to_string()))?;
            all.extend(batches);
            match next {
                Some(id) if all.len() < 10_000 => path = format!("{base}?limit=100&{after}={id}"),
                _ => return Ok(all),
            }
        }
    }

    async fn wait_for(&self, open: Vec<BatchRecord>) -> Result<(), Stopped> {
        for batch in open {
            let Some(id) = batch.provider_id.clone() else { continue };
            let ended = self.ended(&id).await?;
            if let Progress::Failed { why } = &ended.progress {
                self.note(&batch, "failed")?;
                self.end(batch, why, Cost::NONE)?;
                return Err(self.failed("working on it", why.clone()));
            }
            self.take_rows(&batch, &ended).await?;
            self.note(&batch, "ended")?;
            self.end(batch, "the batch ended without its answer", Cost::NONE)?;
        }
        Ok(())
    }

    /// Waits until a batch is at its end.
    async fn ended(&self, id: &str) -> Result<Batch, Stopped> {
        let dialect = self.client.record().dialect;
        let path = format!("{}/{id}", wire_batch::path(dialect));
        let mut wait = POLL.0;
        loop {
            if !(self.terms.go_on)() {
                return Err(Stopped::OnRequest);
            }
            let arrived = self.get("asking how far it is", &path).await?;
            let batch = wire_batch::read_batch(dialect, &arrived.bytes);
            let batch = batch.map_err(|e| self.failed("asking how far it is", e.to_string()))?;
            if batch.progress != Progress::Running {
                return Ok(batch);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(POLL.1);
        }
    }

    async fn rows_of(&self, batch: &Batch) -> Result<Vec<wire_batch::Row>, Stopped> {
        let mut rows = Vec::new();
        for path in &batch.results {
            let arrived = self.get("fetching its results", path).await?;
            let read = wire_batch::read_rows(self.client.record().dialect, &arrived.bytes);
            // A line that is no row answers nobody: its request is asked again by a later run.
            rows.extend(read.into_iter().flatten());
        }
        Ok(rows)
    }

    /// Stores and judges each row of results, like a reply.
    async fn take_rows(&self, batch: &BatchRecord, ended: &Batch) -> Result<(), Stopped> {
        let waiting: BTreeMap<Key, Usd> = self.keys_of(batch).into_iter().collect();
        let (client, record) = (self.client, self.client.record());
        for row in self.rows_of(ended).await? {
            let Ok(key) = row.custom_id.parse::<Key>() else { continue };
            let (Some(reserve), Some((head, bytes))) = (waiting.get(&key), row.reply) else {
                continue;
            };
            let Some(entry) = client.ledger().entry(&key) else { continue };
            if entry.state != State::Reserved {
                continue;
            }
            let attempt = entry.attempts.saturating_add(1);
            let reply = client.ledger().receive(key, attempt, 0, head, bytes)?;
            let received =
                wire::read(record.dialect, &record.settings, &reply.head, &reply.bytes.0);
            let judged = judge::judge(&received, &record.settings, self.price.as_ref(), *reserve);
            client.ledger().judge(key, attempt, &judged)?;
            client.budget().settle(*reserve, judged.cost);
            if let Verdict::Rejected { reason, detail } = judged.verdict {
                let sample = key.short();
                client.progress().event(&Event::Rejected { sample, reason, detail });
            }
        }
        Ok(())
    }

    /// Closes a batch; requests that still wait for it have no answer.
    fn end(&self, mut batch: BatchRecord, why: &str, cost: Cost) -> Result<(), Stopped> {
        let ledger = self.client.ledger();
        for (key, reserve) in self.keys_of(&batch) {
            let attempt = ledger.entry(&key).map_or(0, |e| e.attempts);
            let detail = why.to_string();
            let failure = Failure { reason: Reason::BatchEnded, detail, cost, millis: 0 };
            ledger.fail(key, attempt, failure)?;
            self.client.budget().settle(reserve, cost);
        }
        batch.ended = true;
        Ok(ledger.batch(&batch)?)
    }

    fn note(&self, batch: &BatchRecord, what: &str) -> Result<(), Stopped> {
        self.client.ledger().batch(batch)?;
        self.client.progress().event(&Event::Batch {
            id: batch.id.clone(),
            provider_id: batch.provider_id.clone(),
            what: what.into(),
            requests: batch.requests,
        });
        Ok(())
    }

    /// Asks until something comes: reading costs nothing.
    async fn get(&self, doing: &'static str, path: &str) -> Result<Arrived, Stopped> {
        let key = Key::of(Dialect::OpenAi, &Value::from(path), "batch", 0);
        let mut tries = 0;
        loop {
            match self.once(doing, Method::GET, path, Load::Nothing).await {
                Ok(arrived) => return Ok(arrived),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => tokio::time::sleep(backoff(&key, tries)).await,
            }
            tries += 1;
        }
    }

    async fn once(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        load: Load<'_>,
    ) -> Result<Arrived, Stopped> {
        let endpoint = &self.client.target().endpoints[0];
        match self.client.exchange().send(method, endpoint, path, load).await {
            Sent::Arrived(arrived) if (200..300).contains(&arrived.head.status) => Ok(arrived),
            Sent::Arrived(arrived) => {
                let words: String =
                    String::from_utf8_lossy(&arrived.bytes).chars().take(300).collect();
                Err(self.failed(doing, format!("status {}: {words}", arrived.head.status)))
            }
            Sent::Broken(broken) => {
                Err(self.failed(doing, format!("{}: {}", broken.reason, broken.detail)))
            }
        }
    }

    fn failed(&self, doing: &'static str, why: String) -> Stopped {
        BatchError { model: self.client.record().name.clone(), doing, why }.into()
    }
}

/// Pieces within [`MOST`].
fn parts<'a, 'b>(asks: &'b [&'a Ask]) -> Vec<&'b [&'a Ask]> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, ask) in asks.iter().enumerate() {
        if i > start && (i - start == MOST.0 || bytes + ask.body.len() > MOST.1) {
            parts.push(&asks[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += ask.body.len();
    }
    if start < asks.len() {
        parts.push(&asks[start..]);
    }
    parts
}

/// Our name of a batch: of its requests and the moment.
fn name_of(part: &[&Ask], at_ms: u64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&at_ms.to_le_bytes());
    for ask in part {
        hasher.update(ask.key.to_string().as_bytes());
    }
    format!("forwhy-{}", &hasher.finalize().to_hex()[..24])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Needs;

    fn ask(n: usize, bytes: usize) -> Ask {
        Ask {
            sample: format!("s{n}").into(),
            key: Key::of(Dialect::OpenAi, &json!({"n": n}), "i", 0),
            replicate: 0,
            body: vec![b'x'; bytes].into(),
            max_tokens: 1,
            needs: Needs::default(),
        }
    }

    #[test]
    fn batches_stay_within_the_limits_and_hold_each_request_once() {
        let asks: Vec<Ask> =
            (0..7).map(|n| ask(n, if n == 3 { MOST.1 } else { MOST.1 / 3 })).collect();
        let refs: Vec<&Ask> = asks.iter().collect();
        let parts = parts(&refs);
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [3, 1, 3]);
        assert_eq!(parts.concat().len(), 7);
        assert_ne!(name_of(parts[0], 1), name_of(parts[1], 1));
        assert!(name_of(parts[0], 1).len() <= 64);
        assert!(super::parts(&[]).is_empty());
    }
}
