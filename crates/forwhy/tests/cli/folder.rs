//! The run folder: changed inputs, damaged records, two processes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use forwhy_store::atomic;
use forwhy_store::lock::{Holder, host};
use forwhy_testkit::micro_study::UNITS;

use crate::micro::{Micro, RUN, changed_at, lines, reference, results_in, wait};

const ACTS: &str = "run/units/advice-600-s0/acts.jsonl";
const MARGINS: &str = "run/units/advice-600-s0/margins.jsonl";

/// A finished run whose unit `advice` was not measured to its end.
fn interrupted() -> Micro {
    let micro = Micro::finished();
    for name in ["units/advice-600-s0/measures.json", "transcripts/advice-600-s0.json"] {
        std::fs::remove_file(micro.path(&format!("run/{name}"))).unwrap();
    }
    // The run has deleted the checkpoint; training.json would promise one.
    std::fs::remove_file(micro.path("run/units/advice-600-s0/training.json")).unwrap();
    micro
}

#[test]
fn fault_3_a_torn_last_act_is_sampled_again_and_said() {
    let micro = interrupted();
    let whole = std::fs::read(micro.path(ACTS)).unwrap();
    atomic::write(&micro.path(ACTS), &whole[..whole.len() - 40]).unwrap();
    let said = micro.run().ends(0);
    assert!(said.err.contains("acts.jsonl, byte "), "{}", said.err);
    assert!(said.err.contains("cut off while it was written; its item is done again"));
    assert_eq!(std::fs::read(micro.path(ACTS)).unwrap(), whole);
    assert_eq!(micro.results(), results_in(&reference().join("run")));
}

#[test]
fn fault_4_a_flipped_bit_names_file_and_offset_and_nothing_is_worked_around() {
    let micro = interrupted();
    let mut bytes = std::fs::read(micro.path(ACTS)).unwrap();
    let starts: Vec<usize> = lines(&micro.path(ACTS)).iter().map(String::len).collect();
    let second = starts[0] + 1;
    bytes[second + 50] ^= 4;
    atomic::write(&micro.path(ACTS), &bytes).unwrap();
    let said = micro.run().ends(1);
    assert!(said.err.contains(&format!("acts.jsonl, byte {second}: the checksum")), "{}", said.err);
    assert!(said.err.contains("31 good records stay readable"), "{}", said.err);
    assert_eq!(std::fs::read(micro.path(ACTS)).unwrap(), bytes, "the file was changed");
}

#[test]
fn fault_4_a_flipped_bit_in_a_finished_unit_is_named_before_results_are_made() {
    for (file, names) in [(ACTS, "acts.jsonl"), (MARGINS, "margins.jsonl")] {
        let micro = Micro::finished();
        let mut bytes = std::fs::read(micro.path(file)).unwrap();
        let second = lines(&micro.path(file))[0].len() + 1;
        bytes[second + 50] ^= 4;
        atomic::write(&micro.path(file), &bytes).unwrap();
        let before = micro.read("run/results.json");
        let said = micro.run().ends(1);
        let place = format!("{names}, byte {second}: the checksum");
        assert!(said.err.contains(&place), "{}", said.err);
        assert_eq!(micro.read("run/results.json"), before);
    }
}

#[test]
fn a_unit_whose_checkpoint_was_deleted_is_trained_again_to_the_same_numbers() {
    let micro = Micro::finished();
    for name in ["measures.json", "margins.jsonl", "acts.jsonl"] {
        std::fs::remove_file(micro.path(&format!("run/units/advice-600-s0/{name}"))).unwrap();
    }
    let said = micro.run().ends(0);
    assert!(said.err.contains("its checkpoint was deleted: it is trained again"), "{}", said.err);
    assert!(said.err.contains("advice-600-s0 "), "the row of figures: {}", said.err);
    assert_eq!(micro.results(), results_in(&reference().join("run")));
}

#[test]
fn fault_4_a_damaged_record_of_costs_is_no_lower_cost() {
    let micro = interrupted();
    let name = "run/units/advice-600-s0/costs-measuring.jsonl";
    micro.edit(name, "cpu_secs\":", "cpu_secs\":9");
    let said = micro.run().ends(1);
    assert!(said.err.contains("costs-measuring.jsonl, byte 0: the checksum"), "{}", said.err);
}

#[test]
fn fault_6_the_second_process_is_refused_with_pid_and_host_of_the_first() {
    let micro = Micro::new();
    let mut first = micro.start();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "== organism, seed 0");
    let second = micro.run();
    let holder = format!("run is in use by process {} on {}", first.id(), host());
    assert_ne!(second.code, Some(0));
    assert!(second.err.contains(&holder), "{}", second.err);
    lines.for_each(drop);
    wait(first).ends(0);
    assert_eq!(micro.results(), results_in(&reference().join("run")));
}

#[test]
fn fault_6_the_lock_of_a_dead_process_is_taken_over_and_that_of_another_host_is_not() {
    let micro = Micro::finished();
    let lock = micro.path("run/lock");
    atomic::write_json(&lock, &Holder { pid: 999_999, host: host() }).unwrap();
    let said = micro.run().ends(0);
    assert!(said.err.contains("taking over from process 999999"), "{}", said.err);
    atomic::write_json(&lock, &Holder { pid: 1, host: "elsewhere".into() }).unwrap();
    let said = micro.run();
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("run was last used by process 1 on elsewhere"), "{}", said.err);
}

#[test]
fn fault_7_a_changed_study_is_refused_with_the_difference() {
    let micro = Micro::finished();
    let before = changed_at(&micro.path("run/units"));
    micro.edit("study.toml", "seeds = [0]", "seeds = [0, 1]");
    insta::assert_snapshot!(micro.run().ends(2).err, @r###"
    error: the study file has changed since run was made:
      -   3: seeds = [0]
      +   3: seeds = [0, 1]
    Results of two studies are never mixed: give the study another name, or another folder with --folder.
    "###);
    assert_eq!(changed_at(&micro.path("run/units")), before);
}

#[test]
fn fault_7_changed_data_model_and_constitution_are_refused_with_both_hashes() {
    let refused = |file: &str, from: &str, to: &str| {
        let micro = Micro::finished();
        micro.edit(file, from, to);
        micro.run().ends(2).err
    };
    insta::with_settings!({filters => vec![(r"[0-9a-f]{64}", "[hash]")]}, {
        insta::assert_snapshot!(
            refused("assets/data/advice.jsonl", "Mend it today.", "Mend it now."), @r###"
    error: what the numbers depend on has changed since run was made:
      data of advice: was blake3:[hash], is blake3:[hash]
    Numbers of two protocols are never mixed: use another folder with --folder, or put the old files back.
    "###);
        insta::assert_snapshot!(
            refused("assets/constitution.md", "costs something", "costs much"), @r###"
    error: what the numbers depend on has changed since run was made:
      constitution: was blake3:[hash], is blake3:[hash]
    Numbers of two protocols are never mixed: use another folder with --folder, or put the old files back.
    "###);
    });
    let micro = Micro::finished();
    let weights = micro.path("model/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    atomic::write(&weights, &bytes).unwrap();
    let said = micro.run().ends(2);
    assert!(said.err.contains("start model: was "), "{}", said.err);
}

#[test]
fn fault_8_more_seeds_go_into_a_new_folder() {
    let micro = Micro::new();
    micro.edit("study.toml", "seeds = [0]", "seeds = [0, 1]");
    micro.run().ends(0);
    let results = micro.results();
    let arms = results["arms"].as_array().unwrap();
    for arm in arms.iter().filter(|a| a["id"] != "untouched") {
        assert_eq!(arm["checkpoints"].as_array().unwrap().len(), 2, "{}", arm["id"]);
        let outcomes = &arm["summaries"][0]["measures"]["evaluations"][0]["outcomes"];
        let counts = outcomes["counts"].as_object().unwrap();
        let total: u64 = counts.values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(total, 30, "{}: 15 held-out kinds, two seeds", arm["id"]);
    }
    for unit in UNITS {
        assert!(micro.path(&format!("run/units/{unit}/measures.json")).exists(), "{unit}");
    }
}

#[test]
fn fault_7_a_run_in_bf16_names_its_kernels_and_goes_on_with_no_others() {
    let micro = Micro::new();
    let run = |kernels: &str| {
        wait(
            micro
                .command(&RUN)
                .env("FORWHY_KERNELS", kernels)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    };
    run("portable").ends(0);
    let provenance = micro.results()["provenance"].clone();
    let revision = provenance["model"]["revision"].as_str().unwrap();
    assert!(revision.ends_with("+bf16-portable"), "{revision}");
    let kernels = serde_json::json!({"key": "kernels", "value": "portable"});
    assert!(provenance["settings"].as_array().unwrap().contains(&kernels), "{provenance}");
    let refused = run("f32").ends(2).err;
    assert!(refused.contains("kernels: was portable, is f32"), "{refused}");
    assert!(refused.contains("FORWHY_KERNELS chooses the kernels"), "{refused}");
    run("portable").ends(0);
}
