//! Many callers for a long time: `FORWHY_SOAK_SECS=600 cargo test -p forwhy-serve --test openai
//! soak -- --ignored --nocapture`. Answers are compared with those that were given to a lone caller; some
//! callers leave in the middle, some send nonsense.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Response, get, head, send};
use super::{Running, asking, server};

const CALLERS: usize = 64;
/// Different requests; each is asked again and again.
const KINDS: usize = 24;

fn request(kind: usize) -> Value {
    let model = ["tiny", "caller", "lora"][kind % 3];
    let more = json!({"model": model, "seed": kind, "n": 1 + kind % 2, "max_tokens": 8 + kind});
    asking(&format!("kind {kind}"), more)
}

fn texts(response: &Response) -> Vec<Value> {
    let reply = response.json();
    let choices = reply["choices"].as_array().into_iter().flatten();
    choices.map(|c| c["message"]["content"].clone()).collect()
}

/// Resident memory of this process, callers included, in MB.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

fn one_caller(server: &Running, caller: usize, expected: &[Vec<Value>], until: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < until {
        let kind = (caller * 7 + done as usize * 5) % KINDS;
        let body = request(kind);
        match (caller + done as usize) % 16 {
            0 => {
                let mut endless = body.clone();
                endless["stream"] = json!(true);
                let head = head("POST", "/v1/chat/completions", server.address);
                drop(send(server.address, &head, endless.to_string().as_bytes()));
            }
            1 => assert_eq!(server.chat(&json!({"model": 1})).status, 400),
            _ => {
                let response = server.chat(&body);
                match response.status {
                    200 => assert_eq!(texts(&response), expected[kind], "kind {kind}"),
                    429 => std::thread::sleep(Duration::from_millis(200)),
                    other => panic!("{other}: {}", response.body),
                }
            }
        }
        done += 1;
    }
    done
}

#[test]
#[ignore = "runs for minutes; see the head of this file"]
fn soak() {
    let secs = std::env::var("FORWHY_SOAK_SECS").map_or(60, |secs| secs.parse().unwrap());
    let server = server();
    let expected: Vec<Vec<Value>> =
        (0..KINDS).map(|kind| texts(&server.chat(&request(kind)))).collect();
    let total = AtomicU64::new(0);
    let round = |secs: u64| {
        let until = Instant::now() + Duration::from_secs(secs);
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (server, expected, total) = (&server, &expected, &total);
                scope.spawn(move || {
                    let done = one_caller(server, caller, expected, until);
                    total.fetch_add(done, Ordering::Relaxed);
                });
            }
        });
        resident_mb()
    };
    let before = round(secs / 10 + 5);
    println!("after the warm-up: {before} MB");
    for part in 1..=4 {
        println!("after part {part} of 4: {} MB", round(secs / 4));
    }
    println!("{} requests of {CALLERS} callers", total.load(Ordering::Relaxed));
    while get(server.address, "/health").json()["places_taken"] != 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
}
