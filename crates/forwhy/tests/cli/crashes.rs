//! Processes that die: killed at any point, killed while they go on, stopped on request.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use forwhy_core::seed::{Stream, stream};
use forwhy_testkit::micro_study::UNITS;
use serde_json::Value;

use crate::micro::{Micro, lines, reference, results_in, wait};

/// Kills `child` (SIGKILL) after a random part of `within`; true if it was still running.
fn kill_within(mut child: Child, within: Duration, draws: &mut Stream) -> bool {
    std::thread::sleep(within.mul_f64(draws.unit()));
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Time that a start takes which has nothing to do.
fn startup() -> Duration {
    let micro = Micro::finished();
    let start = Instant::now();
    micro.run().ends(0);
    start.elapsed()
}

/// The run is whole: every planned act and margin once, and the results of a run that nobody killed.
fn assert_whole(micro: &Micro) {
    for unit in UNITS {
        for file in ["acts.jsonl", "margins.jsonl"] {
            let name = format!("units/{unit}/{file}");
            let here = keys(&micro.path("run").join(&name));
            let planned = keys(&reference().join("run").join(&name));
            let distinct: BTreeSet<&String> = here.iter().collect();
            assert_eq!(distinct.len(), here.len(), "{name} holds a key twice");
            assert_eq!(distinct, planned.iter().collect(), "{name}");
        }
    }
    let expected = results_in(&reference().join("run"));
    let found = micro.results();
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(found[key], *value, "{key} differs from that of an uninterrupted run");
    }
}

/// Keys of the records of a segment: `item` of acts, `instance` of margins.
fn keys(path: &Path) -> Vec<String> {
    let key = |line: &String| {
        let record: Value = serde_json::from_str(&line[9..]).unwrap();
        let key = record.get("item").or_else(|| record.get("instance"));
        key.unwrap().as_str().unwrap().to_string()
    };
    lines(path).iter().map(key).collect()
}

#[test]
fn fault_1_killed_at_50_random_points_a_run_ends_as_if_nothing_had_happened() {
    let mut draws = stream(&["fault 1", "moments of death"]);
    let within = startup().mul_f64(1.6);
    let mut killed = 0;
    while killed < 50 {
        let micro = Micro::new();
        let mut here = 0;
        while killed < 50 && here < 25 && !micro.path("run/report.html").exists() {
            let running = kill_within(micro.start(), within, &mut draws);
            (killed, here) = (killed + usize::from(running), here + usize::from(running));
        }
        micro.run().ends(0);
        assert_whole(&micro);
    }
}

#[test]
fn fault_2_killed_three_times_while_it_goes_on_a_run_loses_nothing() {
    let mut draws = stream(&["fault 2", "moments of death"]);
    let micro = Micro::new();
    let start = startup();
    assert!(kill_within(micro.start(), start.mul_f64(3.0), &mut draws));
    for _ in 0..3 {
        let segments: Vec<(String, Vec<String>)> = UNITS
            .iter()
            .map(|unit| format!("run/units/{unit}/acts.jsonl"))
            .filter(|name| micro.path(name).exists())
            .map(|name| (name.clone(), lines(&micro.path(&name))))
            .collect();
        kill_within(micro.start(), start.mul_f64(1.5), &mut draws);
        for (name, before) in segments {
            let after = lines(&micro.path(&name));
            let kept = before.len().saturating_sub(1);
            assert_eq!(after[..kept], before[..kept], "{name} lost what was written");
        }
    }
    micro.run().ends(0);
    assert_whole(&micro);
}

#[test]
fn fault_9_costs_are_the_sum_of_all_attempts() {
    let micro = Micro::new();
    let mut attempts = 0;
    while !micro.path("run/units/organism-s0/measures.json").exists() {
        stop_soon(&micro);
        attempts += 1;
        assert!(attempts < 50, "the organism is never finished");
    }
    let costs = lines(&micro.path("run/units/organism-s0/costs-measuring.jsonl"));
    let cpu = |line: &String| -> f64 {
        let cost: Value = serde_json::from_str(&line[9..]).unwrap();
        cost["cpu_secs"].as_f64().unwrap()
    };
    let sum: f64 = costs.iter().map(cpu).sum();
    let measured: Value =
        serde_json::from_str(&micro.read("run/units/organism-s0/measures.json")).unwrap();
    assert!(attempts > 1, "one attempt sums up nothing");
    assert!((measured["cost"]["cpu_secs"].as_f64().unwrap() - sum).abs() < 1e-9);
    let started = micro.read("run/started.json");
    micro.run().ends(0);
    let results: Value = serde_json::from_str(&micro.read("run/results.json")).unwrap();
    assert_eq!(format!("{}\n", results["provenance"]["started"]), started);
    assert_whole(&micro);
}

/// Starts the run, interrupts it soon, and waits for it to stop.
fn stop_soon(micro: &Micro) {
    let mut child = micro.start();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first line comes when the folder is open and work begins.
    if said.next().is_some() {
        std::thread::sleep(Duration::from_millis(150));
        interrupt(&child);
    }
    said.for_each(drop);
    wait(child);
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

#[test]
fn an_interrupt_stops_the_run_after_the_step_at_hand_and_it_goes_on_later() {
    let micro = Micro::new();
    let mut child = micro.start();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(err.next().unwrap().unwrap(), "== organism, seed 0");
    interrupt(&child);
    let rest: Vec<String> = err.map(Result::unwrap).collect();
    let said = wait(child);
    assert_eq!(said.code, Some(130), "{rest:?}");
    assert_eq!(said.out, "");
    assert_eq!(rest.last().unwrap(), "stopped on request; the same command goes on from here");
    assert!(!micro.path("run/results.json").exists());
    assert_eq!(micro.read("run/lock"), "", "the lock was not released");
    micro.run().ends(0);
    assert_whole(&micro);
}
