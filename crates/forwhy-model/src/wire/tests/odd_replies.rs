//! Replies as they should not be: each is an outcome of its own.

use super::*;

fn outcome(status: u16, body: &str) -> String {
    let head = Head { status, ..Head::ok() };
    read(Dialect::OpenAi, &settings(Dialect::OpenAi), &head, body.as_bytes()).name().to_string()
}

fn why(received: &Received) -> &str {
    match received {
        Received::Malformed { why } => why,
        other => panic!("not malformed: {other:?}"),
    }
}

#[test]
fn fault_17_a_success_without_an_answer_says_what_is_wrong() {
    let asked = settings(Dialect::OpenAi);
    let of = |body: &str| read(Dialect::OpenAi, &asked, &Head::ok(), body.as_bytes());
    let whole = completion(|_| {}).to_string();
    for (body, expected) in [
        ("", "no JSON: byte 0: it ends where a value should stand"),
        ("<html><h1>Bad Gateway</h1>", "no JSON: byte 0: no JSON value begins so"),
        (&whole[..whole.len() - 1], "it ends in the middle"),
        ("{}", "there is no list of choices"),
        (r#"{"choices": []}"#, "the list of choices is empty"),
        (r#"{"choices": [{}]}"#, "the choice has no message"),
        (r#"{"choices": [{}, {}]}"#, "2 choices where one was asked for"),
        (r#"{"choices": [{"message": {"content": 5}}]}"#, "neither a text nor a list"),
        (r#"{"choices": [{"message": {"tool_calls": [{"id": "c"}]}}]}"#, "has no function"),
        ("null", "there is no list of choices"),
        ("[[[]]]", "there is no list of choices"),
    ] {
        let received = of(body);
        assert!(why(&received).contains(expected), "{body}: {received:?}");
    }
}

#[test]
fn fault_17_an_empty_reply_and_one_of_thoughts_alone_are_no_answers() {
    for content in [Value::Null, "".into(), " \n".into()] {
        let reply = completion(|r| r["choices"][0]["message"]["content"] = content.clone());
        let received = read_json(Dialect::OpenAi, &reply);
        assert_eq!(received.name(), "empty");
        assert_eq!(
            received.answer().unwrap().usage.unwrap().completion_tokens,
            2,
            "it was paid for"
        );
    }
    let thoughts = message(|r| r["content"] = json!([{"type": "thinking", "thinking": "Hm"}]));
    assert_eq!(read_json(Dialect::Anthropic, &thoughts).name(), "empty");
    let none = message(|r| r["content"] = json!([]));
    assert_eq!(read_json(Dialect::Anthropic, &none).name(), "empty");
}

#[test]
fn fault_17_an_answer_of_another_model_or_provider_is_not_ours() {
    let reply = completion(|r| r["model"] = "m-small".into());
    let Received::WrongServed { what, asked, seen, answer } = read_json(Dialect::OpenAi, &reply)
    else {
        panic!("taken for ours")
    };
    assert_eq!((what.as_str(), asked.as_str(), seen.as_deref()), ("model", "m", Some("m-small")));
    assert_eq!(answer.text, "Hello");
    let unnamed = completion(|r| drop(r.as_object_mut().unwrap().remove("model")));
    assert_eq!(read_json(Dialect::OpenAi, &unnamed).name(), "wrong_served");
    let mut pinned = settings(Dialect::OpenRouter);
    pinned.provider = Some("deep-infra/fp8".into());
    for (provider, expected) in [("DeepInfra", "answer"), ("Together", "wrong_served")] {
        let body = completion(|r| r["provider"] = provider.into()).to_string();
        let received = read(Dialect::OpenRouter, &pinned, &Head::ok(), body.as_bytes());
        assert_eq!(received.name(), expected);
    }
}

#[test]
fn fault_21_odd_bytes_are_mended_and_noted_or_refused() {
    let whole = completion(|_| {}).to_string();
    let with = |text: &str| {
        let body = whole.replace("\"Hello\"", text);
        read(Dialect::OpenAi, &settings(Dialect::OpenAi), &Head::ok(), body.as_bytes())
    };
    let mended = answer(with(r#""Hel\ud835lo\u0000""#));
    assert_eq!(mended.text, "Hel\u{fffd}lo\0");
    assert_eq!(mended.mended.len(), 1);
    let long = answer(with(&format!("\"{}\"", "x".repeat(10 << 20))));
    assert_eq!(long.text.len(), 10 << 20);
    let deep = with(&("[".repeat(500) + &"]".repeat(500)));
    assert!(why(&deep).contains("nesting is deeper than 128"));
    let twice = with(r#""a", "content": "b""#);
    assert!(why(&twice).contains("the key \"content\" stands twice"));
    let nan = completion(|r| {
        r["choices"][0]["logprobs"] = json!({"content": [{"token": "a", "logprob": -12345.5}]});
    });
    let body = nan.to_string().replace("-12345.5", "NaN");
    let found = read(Dialect::OpenAi, &settings(Dialect::OpenAi), &Head::ok(), body.as_bytes());
    let found = answer(found);
    assert_eq!(found.logprobs.unwrap()[0].logprob, None);
    assert_eq!(found.mended, ["1 numbers that are not finite became null"]);
}

#[test]
fn fault_13_an_overload_inside_a_success_is_an_overload() {
    let overloaded =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    assert_eq!(read_json(Dialect::Anthropic, &overloaded).name(), "overloaded");
    let asked = settings(Dialect::Anthropic);
    let start = json!({"type": "message_start", "message": message(|_| {})});
    assert_eq!(streamed(Dialect::Anthropic, &asked, &[start, overloaded]).name(), "overloaded");
    let inside = |error: Value| read_json(Dialect::OpenRouter, &json!({"error": error})).name();
    assert_eq!(inside(json!({"code": 429, "message": "slow down"})), "rate_limited");
    assert_eq!(inside(json!({"code": 503, "message": "no instances"})), "overloaded");
    assert_eq!(inside(json!({"code": 502, "message": "bad gateway"})), "server");
    assert_eq!(inside(json!({"message": "?"})), "server");
    let first = json!({"model": "m", "choices": [{"index": 0, "delta": {"content": "He"}}]});
    let error = json!({"error": {"code": 529, "message": "overloaded"}, "choices": []});
    let asked = settings(Dialect::OpenRouter);
    assert_eq!(streamed(Dialect::OpenRouter, &asked, &[first, error]).name(), "overloaded");
    assert_eq!(outcome(503, "upstream connect error"), "overloaded");
    assert_eq!(outcome(529, "{}"), "overloaded");
}

#[test]
fn fault_14_errors_are_told_apart_by_status_and_by_words() {
    let said = |code: &str, message: &str| {
        json!({"error": {"code": code, "message": message}}).to_string()
    };
    for (status, body, expected) in [
        (400, said("x", "bad"), "bad_request"),
        (400, said("context_length_exceeded", "too long"), "context_overflow"),
        (400, said("", "prompt is too long: 300000 tokens > 200000 maximum"), "context_overflow"),
        (400, said("content_filter", "no"), "filtered"),
        (400, said("", "Your credit balance is too low to access the API."), "no_credit"),
        (401, said("invalid_api_key", "wrong key"), "auth"),
        (402, String::new(), "no_credit"),
        (403, said("", "not allowed"), "auth"),
        (403, said("", "requires moderation. Your input was flagged"), "filtered"),
        (404, said("model_not_found", "no such model"), "not_found"),
        (408, String::new(), "server"),
        (413, said("", "request too large"), "bad_request"),
        (422, said("", "unknown field"), "bad_request"),
        (429, said("rate_limit_exceeded", "slow down"), "rate_limited"),
        (429, said("insufficient_quota", "You exceeded your current quota"), "no_credit"),
        (429, said("engine_overloaded_error", "try later"), "overloaded"),
        (500, String::new(), "server"),
        (504, "<html>".into(), "server"),
        (204, String::new(), "malformed"),
        (302, String::new(), "redirect"),
    ] {
        assert_eq!(outcome(status, &body), expected, "{status} {body}");
    }
}

#[test]
fn fault_12_the_wait_that_a_server_asks_for_is_kept_as_it_came() {
    let asked = settings(Dialect::OpenAi);
    let wait = |fields: &[(&str, &[u8])]| {
        let head = Head::new(429, fields.iter().copied());
        match read(Dialect::OpenAi, &asked, &head, b"{}") {
            Received::RateLimited { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wait(&[]), None);
    assert_eq!(wait(&[("Retry-After", b"inf")]).as_deref(), Some("inf"));
    assert_eq!(wait(&[("retry-after", b"-1")]).as_deref(), Some("-1"));
    assert_eq!(wait(&[("retry-after", b"2"), ("retry-after-ms", b"1500")]).as_deref(), Some("1.5"));
    let date = b"Wed, 21 Oct 2026 07:28:00 GMT";
    assert_eq!(wait(&[("RETRY-AFTER", date)]).unwrap().as_bytes(), date);
}

#[test]
fn fault_15_a_stream_that_breaks_off_is_no_answer() {
    let asked = settings(Dialect::Vllm);
    let begun = json!({"model": "m", "choices": [{"index": 0, "delta": {"content": "Hello"}}]});
    let received = streamed(Dialect::Vllm, &asked, std::slice::from_ref(&begun));
    assert!(why(&received).contains("was ended after 1 pieces without a finish_reason"));
    let cut = format!("data: {begun}\n\ndata: {{\"choi");
    let received = read(Dialect::Vllm, &asked, &stream_head(), cut.as_bytes());
    assert!(why(&received).contains("piece 1 is no JSON"), "{received:?}");
    let received = read(Dialect::Vllm, &asked, &stream_head(), b": keep-alive\n\n");
    assert_eq!(why(&received), "the stream is empty");
}
