//! The server over real sockets, on the tiny random model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod client;
mod faults;
mod model;
mod peers;
mod soak;

use std::net::SocketAddr;
use std::time::Duration;

use forwhy_core::chat::Message;
use forwhy_core::model::{GenerateRequest, Model as _, Sampling};
use forwhy_engine::host::Host;
use forwhy_engine::local::LocalModel;
use forwhy_engine::schedule::Limits;
use forwhy_engine::weights;
use forwhy_serve::openai::{ServeError, Server, Settings, Stopper};
use forwhy_testkit::pieces_model::{FAMILIES, pieces_model_dir};
use serde_json::{Value, json};

use self::client::{Response, get, post};

fn settings() -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: None,
        hosts: Vec::new(),
        sequences: 16,
        queue: 112,
        max_body_bytes: 1 << 20,
        connections: 256,
        stall: Duration::from_secs(60),
        session: "test".into(),
        clock: || 1_800_000_000,
    }
}

/// A server that runs; it is stopped with the test.
struct Running {
    address: SocketAddr,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    fn start(settings: Settings) -> Self {
        let limits = Limits { sequences: settings.sequences, ..Limits::default() };
        let host = Host::start(model::local_model(), "tiny", model::adapters(), limits).unwrap();
        Running::with(settings, host)
    }

    fn with(settings: Settings, host: Host) -> Self {
        let server = Server::bind(settings, host).unwrap();
        let (address, stopper) = (server.address(), server.stopper());
        let thread = Some(std::thread::spawn(move || server.run()));
        Running { address, stopper, thread }
    }

    fn stop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    fn chat(&self, body: &Value) -> Response {
        post(self.address, "/v1/chat/completions", body.to_string().as_bytes())
    }

    fn complete(&self, body: &Value) -> Response {
        post(self.address, "/v1/completions", body.to_string().as_bytes())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

fn server() -> Running {
    Running::start(settings())
}

/// A request for a chat with `more` fields.
fn asking(text: &str, more: Value) -> Value {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": text}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn content(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["choices"][0]["message"]["content"].as_str().unwrap().into()
}

/// The text and the reason of choice `index` of a stream.
fn streamed(events: &[Value], index: u64) -> (String, String) {
    let choices = events.iter().flat_map(|e| e["choices"].as_array().unwrap());
    let mine: Vec<&Value> = choices.filter(|c| c["index"] == index).collect();
    let text = mine.iter().filter_map(|c| c["delta"]["content"].as_str()).collect();
    let reason = mine.iter().filter_map(|c| c["finish_reason"].as_str()).collect();
    (text, reason)
}

#[test]
fn models_and_replies_name_their_weights() {
    let server = server();
    let list = get(server.address, "/v1/models").json();
    let cards = list["data"].as_array().unwrap();
    let names: Vec<&str> = cards.iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny", "caller", "lora"]);
    assert_eq!((&cards[1]["parent"], &cards[0]["max_model_len"]), (&json!("tiny"), &json!(4096)));
    for card in cards {
        let reply = server.chat(&asking("a", json!({"model": card["id"], "max_tokens": 2})));
        assert_eq!(reply.json()["system_fingerprint"], card["weights_hash"]);
        let path = format!("/v1/models/{}", card["id"].as_str().unwrap());
        assert_eq!(get(server.address, &path).json(), *card);
    }
    assert_ne!(cards[0]["weights_hash"], cards[2]["weights_hash"]);
    assert_eq!(get(server.address, "/health").json()["status"], "ok");
    let unknown = server.chat(&asking("a", json!({"model": "other"})));
    assert_eq!((unknown.status, unknown.param().as_str()), (404, "model"));
}

#[test]
fn a_reply_is_that_of_the_engine_for_the_same_seed() {
    let server = server();
    let sampling = Sampling { max_tokens: 24, seed: 5, ..Sampling::default() };
    let request = GenerateRequest {
        messages: vec![Message::system("s"), Message::user("Hi")],
        tools: Vec::new(),
        sampling,
    };
    let model = model::local_model();
    let reply = pollster::block_on(model.generate(std::slice::from_ref(&request)));
    let reply = reply.into_iter().next().unwrap().unwrap();
    let body = json!({"model": "tiny", "seed": 5, "max_tokens": 24, "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
    ]});
    let response = server.chat(&body);
    assert_eq!(content(&response), reply.text);
    let usage = &response.json()["usage"];
    assert_eq!(usage["prompt_tokens"], reply.usage.prompt_tokens);
    assert_eq!(usage["completion_tokens"], reply.usage.completion_tokens);
}

#[test]
fn the_pieces_of_a_stream_add_up_to_the_whole_reply() {
    let server = server();
    for seed in 0..4 {
        let more =
            json!({"seed": seed, "max_tokens": 40, "n": 2, "logprobs": true, "top_logprobs": 2});
        let whole = server.chat(&asking("Hi", more.clone())).json();
        let mut body = asking("Hi", more);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let events = server.chat(&body).events();
        for index in 0..2u64 {
            let choice = &whole["choices"][index as usize];
            let (text, reason) = streamed(&events, index);
            assert_eq!(json!(text), choice["message"]["content"]);
            assert_eq!(json!(reason), choice["finish_reason"]);
            let choices = events.iter().flat_map(|e| e["choices"].as_array().unwrap());
            let mine = choices.filter(|c| c["index"] == index);
            let tokens: Vec<&Value> = mine
                .flat_map(|c| c["logprobs"]["content"].as_array().into_iter().flatten())
                .collect();
            assert_eq!(json!(tokens), choice["logprobs"]["content"]);
            assert!(tokens.iter().all(|t| t["top_logprobs"].as_array().unwrap().len() == 2));
            let bytes = tokens.iter().flat_map(|t| t["bytes"].as_array().unwrap());
            let bytes: Vec<u8> = bytes.map(|b| b.as_u64().unwrap() as u8).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), text);
        }
        assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    }
}

#[test]
fn a_sentencepiece_model_loses_and_adds_no_space_and_sends_no_half_character() {
    for family in FAMILIES {
        let dir = tempfile::tempdir().unwrap();
        pieces_model_dir(dir.path(), family, 3).unwrap();
        let model = LocalModel::load(weights::open(dir.path()).unwrap(), 1).unwrap();
        let host = Host::start(model, "tiny", Vec::new(), Limits::default()).unwrap();
        let server = Running::with(settings(), host);
        // Tokens of spaces, and the bytes of a character that has no token.
        let likely = json!({"300": 30, "243": 25, "162": 25, "155": 25, "131": 25, "423": 20});
        for seed in 0..3 {
            let more = json!({"seed": seed, "max_tokens": 30, "logit_bias": likely});
            let whole = content(&server.chat(&asking("Hi", more.clone())));
            let mut body = asking("Hi", more);
            body["stream"] = json!(true);
            assert_eq!(streamed(&server.chat(&body).events(), 0).0, whole, "{}", family.0);
        }
        let body = json!({"model": "tiny", "prompt": "The ferry", "max_tokens": 0, "echo": true,
            "logprobs": 1});
        let scored = server.complete(&body).json()["choices"][0].clone();
        assert_eq!(scored["text"], "The ferry");
        let tokens = scored["logprobs"]["tokens"].as_array().unwrap();
        let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
        assert_eq!(joined, "The ferry");
    }
}

#[test]
fn samples_of_one_prompt_differ_and_come_again_with_their_seed() {
    let server = server();
    let ask = |more| {
        let reply = server.chat(&asking("Hi", more)).json();
        let choices = reply["choices"].as_array().unwrap().clone();
        choices.iter().map(|c| c["message"]["content"].as_str().unwrap().into()).collect()
    };
    let four: Vec<String> = ask(json!({"n": 4, "seed": 3, "max_tokens": 30}));
    assert_eq!(ask(json!({"n": 4, "seed": 3, "max_tokens": 30})), four);
    assert_eq!(ask(json!({"seed": 3, "max_tokens": 30})), four[..1]);
    let distinct: std::collections::BTreeSet<&String> = four.iter().collect();
    assert_eq!(distinct.len(), 4);
    let free = json!({"max_tokens": 30});
    assert_ne!(ask(free.clone()), ask(free), "no seed: each request draws anew");
}

#[test]
fn stop_texts_limits_penalties_and_biases_are_honoured() {
    let server = server();
    let free = content(&server.chat(&asking("Hi", json!({"seed": 1, "max_tokens": 60}))));
    let stop: String = free.chars().skip(8).take(2).collect();
    let reply = server.chat(&asking("Hi", json!({"seed": 1, "max_tokens": 60, "stop": stop})));
    assert_eq!(content(&reply), free[..free.find(&stop).unwrap()]);
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    let bias = json!({"65": 100});
    let reply = server.chat(&asking("Hi", json!({"max_tokens": 5, "logit_bias": bias})));
    assert_eq!(content(&reply), "AAAAA");
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
    let more = json!({"max_tokens": 4, "temperature": 0, "logit_bias": {"65": 50, "66": 49},
        "presence_penalty": 2});
    let reply = content(&server.chat(&asking("Hi", more)));
    assert!(reply.starts_with("AB") || reply.starts_with("BA"), "{reply}: the second is another");
}

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "add", "description": "adds",
    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}}]"#;

fn calling(more: Value) -> Value {
    let tools: Value = serde_json::from_str(TOOLS).unwrap();
    let mut body = asking(
        model::QUESTION,
        json!({"model": "caller", "tools": tools, "temperature": 0, "max_tokens": 120}),
    );
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn a_tool_is_called_and_its_result_is_answered() {
    let server = server();
    let reply = server.chat(&calling(json!({}))).json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{reply}");
    assert_eq!(choice["message"]["content"], Value::Null);
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"], json!({"name": model::CALL.0, "arguments": model::CALL.1}));
    let events = server.chat(&calling(json!({"stream": true}))).events();
    assert_eq!(streamed(&events, 0), (String::new(), "tool_calls".into()));
    let deltas = events.iter().filter_map(|e| e["choices"][0]["delta"].get("tool_calls"));
    let delta = &deltas.collect::<Vec<_>>()[0][0];
    assert_eq!((&delta["function"], &delta["id"]), (&call["function"], &call["id"]));
    let mut second = calling(json!({}));
    let turns = second["messages"].as_array_mut().unwrap();
    turns.push(choice["message"].clone());
    turns[1].as_object_mut().unwrap().retain(|key, _| key != "refusal");
    turns.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "5"}));
    assert_eq!(content(&server.chat(&second)), model::ANSWER);
}

#[test]
fn a_broken_call_is_kept_as_text_and_none_is_read_where_no_tool_is() {
    let server = server();
    let broken = server.chat(&calling(json!({"max_tokens": 30}))).json();
    let choice = &broken["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert!(choice["message"]["content"].as_str().unwrap().starts_with("<tool_call>{"));
    let streamed_text =
        streamed(&server.chat(&calling(json!({"max_tokens": 30, "stream": true}))).events(), 0).0;
    assert_eq!(json!(streamed_text), choice["message"]["content"]);
    let none = server.chat(&calling(json!({"tool_choice": "none"}))).json();
    assert!(none["choices"][0]["message"].get("tool_calls").is_none());
}

#[test]
fn completions_continue_echo_and_score() {
    let server = server();
    let body = json!({"model": "tiny", "prompt": ["ab cd", "xy"], "n": 2, "seed": 1, "max_tokens": 4,
        "echo": true, "logprobs": 2});
    let reply = server.complete(&body).json();
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert!(choices[1]["text"].as_str().unwrap().starts_with("ab cd"));
    assert!(choices[2]["text"].as_str().unwrap().starts_with("xy"));
    let body =
        json!({"model": "tiny", "prompt": "ab cd", "max_tokens": 0, "echo": true, "logprobs": 2});
    let scored = server.complete(&body).json()["choices"][0].clone();
    assert_eq!(scored["text"], "ab cd");
    let lists = &scored["logprobs"];
    assert_eq!(lists["tokens"], json!(["a", "b", " ", "c", "d"]));
    assert_eq!(lists["text_offset"], json!([0, 1, 2, 3, 4]));
    assert_eq!(lists["token_logprobs"][0], Value::Null);
    let model = model::local_model();
    let ids: Vec<u32> = b"ab cd".iter().map(|b| u32::from(*b)).collect();
    let read = model.with_llama(|llama| llama.read_text(&ids, 2).unwrap()).unwrap();
    for (i, drawn) in read.iter().enumerate() {
        let served = lists["token_logprobs"][i + 1].as_f64().unwrap();
        assert!((served - f64::from(drawn.logprob)).abs() < 1e-5);
        assert_eq!(choices[0]["logprobs"]["token_logprobs"][i + 1], lists["token_logprobs"][i + 1]);
    }
    let ids = json!({"model": "tiny", "prompt": ids, "max_tokens": 6, "seed": 2, "stream": true});
    let pieces = server.complete(&ids).events();
    let text: String = pieces.iter().filter_map(|e| e["choices"][0]["text"].as_str()).collect();
    let mut whole = ids.clone();
    whole["stream"] = json!(false);
    assert_eq!(json!(text), server.complete(&whole).json()["choices"][0]["text"]);
}

#[test]
fn answers_of_64_callers_and_three_models_are_never_mixed() {
    let server = server();
    let body = |i: usize| {
        let model = ["tiny", "caller", "lora"][i % 3];
        let more = json!({"model": model, "seed": i, "max_tokens": 10 + i % 7, "n": 1 + i % 2});
        asking(&format!("number {i}"), more)
    };
    let texts = |response: &Response| {
        assert_eq!(response.status, 200, "{}", response.body);
        let reply = response.json();
        let choices = reply["choices"].as_array().unwrap().clone();
        (reply["model"].clone(), choices.iter().map(|c| c["message"]["content"].clone()).collect())
    };
    let together: Vec<(Value, Vec<Value>)> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..64).map(|i| scope.spawn(move || body(i))).collect();
        let bodies = asks.into_iter().map(|ask| ask.join().unwrap());
        let asks: Vec<_> = bodies
            .map(|body| {
                let server = &server;
                scope.spawn(move || texts(&server.chat(&body)))
            })
            .collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    for (i, reply) in together.iter().enumerate() {
        assert_eq!(texts(&server.chat(&body(i))), *reply, "caller {i}");
    }
}
