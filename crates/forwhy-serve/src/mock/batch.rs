//! The batch interfaces of OpenAI and Anthropic. A batch ends when it has been asked for as often as
//! the script says; its requests are counted when it is submitted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fault::{Delivery, Fault};
use super::http::{Request, Response};
use super::reply::{self, Kind};
use super::state::State;

/// Files and batches that were taken.
#[derive(Default)]
pub(super) struct Batches {
    files: BTreeMap<String, Vec<u8>>,
    taken: Vec<Taken>,
}

struct Taken {
    id: String,
    kind: Kind,
    /// The description without its progress.
    about: Value,
    requests: usize,
    polls: u32,
    results: String,
}

/// Answers a request to a batch interface, or 404.
pub(super) fn answer(request: &Request, path: &str, state: &State) -> (Response, Delivery) {
    let whole = |response| (response, Delivery::Whole);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["files"]) => whole(upload(request, state)),
        ("GET", ["files", id, "content"]) => whole(content(id, state)),
        ("POST", ["batches"]) => submit(request, Kind::Completion, state),
        ("POST", ["messages", "batches"]) => submit(request, Kind::Message, state),
        ("GET", ["batches"]) => whole(list(request, Kind::Completion, state)),
        ("GET", ["messages", "batches"]) => whole(list(request, Kind::Message, state)),
        ("GET", ["batches", id] | ["messages", "batches", id]) => whole(poll(id, state)),
        ("GET", ["messages", "batches", id, "results"]) => whole(content(id, state)),
        _ => whole(reply::error(Kind::Completion, 404, "not_found_error", "no such address")),
    }
}

fn upload(request: &Request, state: &State) -> Response {
    let Some(file) = file_of_form(request) else {
        let message = "the form holds no file";
        return reply::error(Kind::Completion, 400, "invalid_request_error", message);
    };
    let id = format!("file-{}", &blake3::hash(&file).to_hex()[..16]);
    state.batches(|b| b.files.insert(id.clone(), file));
    Response::json(200, json!({"id": id, "object": "file", "purpose": "batch"}).to_string())
}

/// The file in a form: behind the blank line of the part that has a file name.
fn file_of_form(request: &Request) -> Option<Vec<u8>> {
    let boundary = request.field("content-type")?.split_once("boundary=")?.1;
    let text = std::str::from_utf8(&request.body).ok()?;
    let part = text.split(&format!("--{boundary}")).find(|part| part.contains("filename="))?;
    let (_, file) = part.split_once("\r\n\r\n")?;
    Some(file.strip_suffix("\r\n")?.as_bytes().to_vec())
}

fn submit(request: &Request, kind: Kind, state: &State) -> (Response, Delivery) {
    let refuse = |message: &str| {
        (reply::error(kind, 400, "invalid_request_error", message), Delivery::Whole)
    };
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return refuse("the body is no JSON");
    };
    let Some(rows) = rows(kind, &body, state) else { return refuse("there are no requests") };
    let script = state.script();
    let lost = script.faults.iter().any(|rule| {
        rule.fault == Fault::LoseSubmitReply && rule.strikes(0, taken(state), &request.body, 0.0)
    });
    let mut results = String::new();
    for (id, asked) in &rows {
        let drawn = state.draw(&forwhy_model::wire::canonical(asked), &script);
        let said = script.say(asked, &drawn);
        let fault = drawn.fault.as_ref();
        let reply = reply::whole(kind, asked, &said, fault);
        results.push_str(&row(kind, id, &reply));
    }
    let (id, about) = state.batches(|b| b.take(kind, &body, rows.len(), results));
    state.took_batch();
    if lost {
        state.note(Fault::LoseSubmitReply.name());
    }
    let delivery = if lost { Delivery::ResetBefore } else { Delivery::Whole };
    (Response::json(200, described(kind, &id, &about, rows.len(), false).to_string()), delivery)
}

fn taken(state: &State) -> u32 {
    state.counts().batches as u32
}

/// Ids and bodies of the requests in a submission.
fn rows(kind: Kind, body: &Value, state: &State) -> Option<Vec<(String, Value)>> {
    let id = |row: &Value| row["custom_id"].as_str().map(str::to_string);
    if kind == Kind::Message {
        let rows = body["requests"].as_array()?;
        return rows.iter().map(|row| Some((id(row)?, row.get("params")?.clone()))).collect();
    }
    let file = state.batches(|b| b.files.get(body["input_file_id"].as_str()?).cloned())?;
    let lines = file.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let row: Value = serde_json::from_slice(line).ok()?;
            Some((id(&row)?, row.get("body")?.clone()))
        })
        .collect()
}

fn row(kind: Kind, id: &str, reply: &Value) -> String {
    let row = match kind {
        Kind::Completion => json!({
            "custom_id": id, "error": null,
            "response": {"status_code": 200, "request_id": id, "body": reply},
        }),
        Kind::Message if reply["type"] == "error" => {
            json!({"custom_id": id, "result": {"type": "errored", "error": reply}})
        }
        Kind::Message => {
            json!({"custom_id": id, "result": {"type": "succeeded", "message": reply}})
        }
    };
    format!("{row}\n")
}

impl Batches {
    fn take(
        &mut self,
        kind: Kind,
        body: &Value,
        requests: usize,
        results: String,
    ) -> (String, Value) {
        let id = format!("batch_{}", self.taken.len());
        let about = json!({"metadata": body["metadata"], "input_file_id": body["input_file_id"]});
        let batch =
            Taken { id: id.clone(), kind, about: about.clone(), requests, polls: 0, results };
        self.taken.push(batch);
        (id, about)
    }
}

fn described(kind: Kind, id: &str, about: &Value, requests: usize, ended: bool) -> Value {
    match kind {
        Kind::Completion => json!({
            "id": id, "object": "batch", "metadata": about["metadata"],
            "input_file_id": about["input_file_id"],
            "status": if ended { "completed" } else { "in_progress" },
            "output_file_id": if ended { json!(id) } else { Value::Null },
            "request_counts": {"total": requests, "completed": if ended { requests } else { 0 }},
        }),
        Kind::Message => json!({
            "id": id, "type": "message_batch",
            "processing_status": if ended { "ended" } else { "in_progress" },
            "request_counts": {
                "processing": if ended { 0 } else { requests },
                "succeeded": if ended { requests } else { 0 },
            },
        }),
    }
}

fn poll(id: &str, state: &State) -> Response {
    let enough = state.script().batch_polls;
    let found = state.batches(|b| {
        let batch = b.taken.iter_mut().find(|batch| batch.id == id)?;
        batch.polls += 1;
        let ended = batch.polls >= enough;
        Some(described(batch.kind, &batch.id, &batch.about, batch.requests, ended))
    });
    match found {
        Some(description) => Response::json(200, description.to_string()),
        None => reply::error(Kind::Completion, 404, "not_found_error", "no such batch"),
    }
}

/// The batches of one interface, newest first, in pages of `limit` behind `after` (`after_id`).
fn list(request: &Request, kind: Kind, state: &State) -> Response {
    let parameter = |name: &str| {
        let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    };
    let after = parameter("after").or_else(|| parameter("after_id"));
    let limit = parameter("limit").and_then(|l| l.parse().ok()).unwrap_or(20);
    let enough = state.script().batch_polls;
    let all: Vec<(String, Value)> = state.batches(|b| {
        let ours = b.taken.iter().rev().filter(|batch| batch.kind == kind);
        ours.map(|batch| {
            let ended = batch.polls >= enough;
            let about = described(kind, &batch.id, &batch.about, batch.requests, ended);
            (batch.id.clone(), about)
        })
        .collect()
    });
    let start = after.map_or(0, |after| {
        all.iter().position(|(id, _)| *id == after).map_or(all.len(), |at| at + 1)
    });
    let page: Vec<&(String, Value)> = all[start..].iter().take(limit).collect();
    let list = json!({
        "object": "list", "has_more": start + page.len() < all.len(),
        "first_id": page.first().map(|(id, _)| id), "last_id": page.last().map(|(id, _)| id),
        "data": page.iter().map(|(_, batch)| batch).collect::<Vec<_>>(),
    });
    Response::json(200, list.to_string())
}

/// The results of a batch, by its id.
fn content(id: &str, state: &State) -> Response {
    let found =
        state.batches(|b| b.taken.iter().find(|batch| batch.id == id).map(|t| t.results.clone()));
    match found {
        Some(results) => Response::new(200, "application/x-ndjson", results),
        None => reply::error(Kind::Completion, 404, "not_found_error", "no such file"),
    }
}
