//! Requests.

use super::*;

#[test]
fn openai_gets_its_own_names_and_no_field_at_its_default() {
    let expected = r#"{"max_completion_tokens":10,"messages":[{"role":"user","content":"Hi"}],"model":"m","seed":0}"#;
    assert_eq!(sent(Dialect::OpenAi, &plain(), &settings(Dialect::OpenAi)), expected);
}

#[test]
fn vllm_gets_every_sampling_field_that_a_models_files_could_set() {
    let text = sent(Dialect::Vllm, &plain(), &settings(Dialect::Vllm));
    let expected = r#"{"max_tokens":10,"messages":[{"role":"user","content":"Hi"}],"min_p":0.0,"model":"m","repetition_penalty":1.0,"seed":0,"temperature":1.0,"top_k":-1,"top_p":1.0}"#;
    assert_eq!(text, expected);
}

#[test]
fn a_chat_with_tools_keeps_calls_results_and_the_order_of_a_schema() {
    let text = sent(Dialect::Compatible, &agentic(), &settings(Dialect::Compatible));
    for part in [
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"read","arguments":"{\"b\":1,\"a\":2}"}}]}"#,
        r#"{"role":"tool","content":"seen","tool_call_id":"c1"}"#,
        r#""properties":{"b":{},"a":{}}"#,
        r#""temperature":0.7,"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn anthropic_gets_blocks_and_alternating_roles() {
    let mut asked = settings(Dialect::Anthropic);
    asked.cache = CacheBreakpoints::SystemAndLast;
    let mut request = agentic();
    request.messages.push(Message::user("Go on."));
    let sent = body(Dialect::Anthropic, &request, &asked).unwrap();
    let cached = json!({"type": "ephemeral"});
    assert_eq!(
        sent["system"],
        json!([{"type": "text", "text": "Be brief.", "cache_control": cached}])
    );
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Look."}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "c1", "name": "read", "input": {"b": 1, "a": 2}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "seen"},
                {"type": "text", "text": "Go on.", "cache_control": cached}]},
        ])
    );
    assert!(sent.get("seed").is_none() && sent.get("top_p").is_none());
}

#[test]
fn openrouter_is_pinned_and_must_honour_every_parameter() {
    let mut asked = settings(Dialect::OpenRouter);
    asked.provider = Some("deepinfra/fp8".into());
    asked.reasoning = Reasoning::On { budget_tokens: Some(5) };
    asked.extra.insert("provider".into(), json!({"quantizations": ["fp8"]}));
    let sent = body(Dialect::OpenRouter, &plain(), &asked).unwrap();
    let route = json!({"require_parameters": true, "order": ["deepinfra/fp8"],
                       "allow_fallbacks": false, "quantizations": ["fp8"]});
    assert_eq!(sent["provider"], route);
    assert_eq!(sent["reasoning"], json!({"max_tokens": 5}));
    asked.extra.insert("provider".into(), json!({"allow_fallbacks": true}));
    assert_eq!(body(Dialect::OpenRouter, &plain(), &asked).unwrap_err().setting, "extra.provider");
}

#[test]
fn every_dialect_spells_the_reasoning_switch_in_its_own_way() {
    let spelt = |dialect, reasoning: Reasoning| {
        let mut asked = settings(dialect);
        asked.reasoning = reasoning;
        body(dialect, &plain(), &asked).unwrap()
    };
    assert_eq!(
        spelt(Dialect::Vllm, Reasoning::Off)["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
    assert_eq!(spelt(Dialect::OpenAi, Reasoning::Off)["reasoning_effort"], "none");
    assert_eq!(spelt(Dialect::OpenRouter, Reasoning::Off)["reasoning"], json!({"enabled": false}));
    assert_eq!(spelt(Dialect::Anthropic, Reasoning::Off)["thinking"], json!({"type": "disabled"}));
    let budget = Reasoning::On { budget_tokens: Some(9) };
    assert_eq!(
        spelt(Dialect::Anthropic, budget)["thinking"],
        json!({"type": "enabled", "budget_tokens": 9})
    );
}

type Change = fn(&mut GenerateRequest, &mut Settings);

#[test]
fn a_setting_that_a_dialect_cannot_express_is_refused_by_name() {
    let cases: [(Dialect, &str, Change); 17] = [
        (Dialect::OpenAi, "top_k", |r, _| r.sampling.top_k = 5),
        (Dialect::OpenAi, "stop", |r, _| r.sampling.stop = vec!["x".into(); 5]),
        (Dialect::OpenAi, "reasoning", |_, s| s.reasoning = Reasoning::On { budget_tokens: None }),
        (Dialect::Compatible, "reasoning", |_, s| s.reasoning = Reasoning::Off),
        (Dialect::Vllm, "provider", |_, s| s.provider = Some("x".into())),
        (Dialect::Sglang, "prompt_logprobs", |_, s| s.prompt_logprobs = Some(1)),
        (Dialect::Vllm, "cache", |_, s| s.cache = CacheBreakpoints::System),
        (Dialect::Vllm, "extra.n", |_, s| drop(s.extra.insert("n".into(), 2.into()))),
        (Dialect::Anthropic, "send_seed", |_, s| s.send_seed = true),
        (Dialect::Anthropic, "logprobs", |r, _| r.sampling.logprobs = true),
        (Dialect::Anthropic, "temperature", |r, _| r.sampling.temperature = 1.2),
        (Dialect::Anthropic, "reasoning", |_, s| {
            s.reasoning = Reasoning::On { budget_tokens: Some(10) };
        }),
        (Dialect::Anthropic, "messages", |r, _| {
            *r = agentic();
            r.messages[2].tool_calls[0].arguments = "{".into();
        }),
        (Dialect::Vllm, "temperature", |r, _| r.sampling.temperature = f32::NAN),
        (Dialect::Vllm, "top_logprobs", |_, s| s.top_logprobs = 3),
        (Dialect::Vllm, "messages", |r, _| r.messages.push(Message::assistant("Sure"))),
        (Dialect::Vllm, "messages", |r, _| {
            r.messages.push(Message { tool_call_id: None, ..Message::tool_result("", "x") });
        }),
    ];
    for (dialect, setting, change) in cases {
        let (mut request, mut asked) = (plain(), settings(dialect));
        change(&mut request, &mut asked);
        let error = body(dialect, &request, &asked).unwrap_err();
        assert_eq!(error.setting, setting, "{error}");
        assert!(error.to_string().contains(dialect.as_str()));
    }
}

#[test]
fn a_seed_keeps_the_bits_that_every_host_can_hold() {
    let mut request = plain();
    request.sampling.seed = u64::MAX;
    let sent = body(Dialect::Vllm, &request, &settings(Dialect::Vllm)).unwrap();
    assert_eq!(sent["seed"], 9_007_199_254_740_991_u64);
}

#[test]
fn our_servers_types_read_what_our_client_writes() {
    let mut asked = settings(Dialect::Compatible);
    (asked.stream, asked.top_logprobs) = (true, 2);
    let mut request = agentic();
    request.sampling.logprobs = true;
    request.sampling.stop = vec!["END".into()];
    let bytes = canonical(&body(Dialect::Compatible, &request, &asked).unwrap());
    let read: openai::ChatRequest = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(read.messages.len(), 4);
    assert_eq!(read.stop.unwrap().texts(), ["END"]);
    assert_eq!(canonical(&serde_json::from_slice(&bytes).unwrap()), bytes);
    let strange = br#"{"model": "m", "messages": [], "mystery": 1}"#;
    let error = serde_json::from_slice::<openai::ChatRequest>(strange).unwrap_err();
    assert!(error.to_string().contains("unknown field `mystery`"));
}
