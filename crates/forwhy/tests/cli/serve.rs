//! `forwhy serve` as a process: what it refuses, what it says first, how it stops. Its answers are
//! tested in forwhy-serve.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use forwhy_testkit::tiny_model::tiny_model_dir;
use rustix::process::{Pid, Signal, kill_process};

use crate::micro::{Micro, copy};

#[test]
fn fault_37_others_are_served_only_with_a_token() {
    let micro = Micro::new();
    let outside = ["serve", "--model", "model", "--listen", "0.0.0.0:0"];
    insta::assert_snapshot!(micro.forwhy(&outside).ends(2).err, @"error: 0.0.0.0:0 can be reached from other machines: give a token of at least 16 characters that callers must bear, or listen on 127.0.0.1");
    micro.write("token", "two words\n");
    let arguments = [&outside[..], &["--token-file", "token"]].concat();
    insta::assert_snapshot!(micro.forwhy(&arguments).ends(2).err, @"error: token: expected one token, without spaces");
}

#[test]
fn adapters_that_cannot_be_used_are_refused() {
    let micro = Micro::new();
    let with = |adapter: &str| {
        let arguments =
            ["serve", "--model", "model", "--listen", "127.0.0.1:0", "--adapter", adapter];
        micro.forwhy(&arguments).ends(2).err
    };
    insta::assert_snapshot!(with("nameless"), @"error: --adapter nameless: expected NAME=PATH");
    let error = with("a=nowhere.safetensors");
    assert!(error.contains("nowhere.safetensors"), "{error}");
    let error = with("a=model/model.safetensors");
    assert!(error.contains("is not a checkpoint"), "{error}");
}

/// The model in the folder `model`, served as `m`; with the address and the hash of its weights.
fn serving(micro: &Micro, model: &str) -> (Child, String, String) {
    serving_with(micro, model, &[])
}

fn serving_with(micro: &Micro, model: &str, more: &[&str]) -> (Child, String, String) {
    let arguments = ["serve", "--model", model, "--name", "m", "--listen", "127.0.0.1:0"];
    let mut child =
        micro.command(&[&arguments, more].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap();
    assert!(address.starts_with("http://127.0.0.1:") && address.ends_with("/v1"), "{address}");
    let model = lines.next().unwrap().unwrap();
    let hash = model.strip_prefix("m  ").unwrap().to_string();
    assert!(hash.len() > 50, "{model}");
    (child, address, hash)
}

fn stop(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_says_where_it_listens_and_in_what_it_decodes_and_a_signal_stops_it() {
    let micro = Micro::new();
    for (weights, suffix) in [("own", ""), ("bf16", "+w16"), ("q8", "+q8")] {
        let (child, _, hash) = serving_with(&micro, "model", &["--weights", weights]);
        assert_eq!(hash.trim_start_matches(|c| c != '+'), suffix, "{hash}");
        stop(child);
    }
}

#[test]
fn fault_7_answers_of_one_served_checkpoint_are_never_taken_for_anothers_of_the_same_name() {
    let micro = Micro::new();
    copy(&micro.path("model"), &micro.path("other"));
    tiny_model_dir(&micro.path("other"), 99).unwrap();
    let row = |i: usize| {
        let sampling = "{\"temperature\":1.0,\"top_p\":1.0,\"top_k\":0,\"max_tokens\":12,\
                        \"stop\":[],\"seed\":7,\"logprobs\":true}";
        let chat = format!("[{{\"role\":\"user\",\"content\":\"number {i}\"}}]");
        format!("{{\"id\":\"q{i}\",\"messages\":{chat},\"sampling\":{sampling}}}\n")
    };
    micro.write("requests.jsonl", &(0..3).map(row).collect::<String>());
    let mut answers: Vec<String> = Vec::new();
    for (model, from_ledger) in [("model", 0), ("model", 3), ("other", 0), ("model", 3)] {
        let (server, address, hash) = serving(&micro, model);
        let spec = format!("compatible:m@{address}");
        let ask = ["ask", "requests.jsonl", "--model", &spec, "--price", "0/0", "--ledger", "l"];
        let said = micro.forwhy(&ask).ends(0);
        stop(server);
        let expected = format!("3 of 3 answered ({from_ledger} from the ledger)");
        assert!(said.err.contains(&expected), "{model}: {}", said.err);
        assert!(said.out.contains(&format!("\"identity\":\"weights:{hash}\"")), "{}", said.out);
        answers.push(said.out);
    }
    assert!(answers[0] == answers[1] && answers[0] == answers[3]);
    let texts = |i: usize| answers[i].split("\"text\":").nth(1).unwrap().to_string();
    assert_ne!(texts(0), texts(2));
}
