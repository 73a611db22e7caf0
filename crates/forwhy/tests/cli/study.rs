//! The micro study from start to end, twice, in parts, and its report.

use forwhy_core::results::{Maybe, Results, Transcripts};
use forwhy_testkit::micro_study::UNITS;

use crate::micro::{Micro, changed_at, reference, results_in};

#[test]
fn a_run_leaves_results_report_and_transcripts_that_read() {
    let run = reference().join("run");
    let text = std::fs::read_to_string(run.join("results.json")).unwrap();
    let results = Results::from_json(&text).unwrap();
    assert_eq!(results.evaluations.len(), 2);
    assert_eq!(results.halves.len(), 2);
    for name in ["report.html", "report.md"] {
        let page = std::fs::read_to_string(run.join(name)).unwrap();
        assert!(page.contains("Advice, opposite values"), "{name}");
    }
    for unit in UNITS {
        let text = std::fs::read_to_string(run.join(format!("transcripts/{unit}.json"))).unwrap();
        let record: Transcripts = serde_json::from_str(&text).unwrap();
        assert_eq!(record.acts.len(), 32, "{unit}: 16 kinds, bait and twin");
    }
    for checkpoint in results.arms.iter().flat_map(|a| &a.checkpoints) {
        let Maybe::Known(page) = &checkpoint.transcripts else { panic!("no page of acts") };
        assert!(run.join(page).exists(), "{page}");
    }
}

#[test]
fn a_run_says_what_it_does_and_prints_the_table() {
    let micro = Micro::new();
    let said = micro.run().ends(0);
    let report = format!("report: {}\n", "run/report.html");
    assert!(said.err.ends_with(&report), "{}", said.err);
    for heading in ["== organism, seed 0", "== untouched model", "== advice, 600 tokens, seed 0"] {
        assert!(said.err.contains(heading), "{}", said.err);
    }
    assert!(said.out.contains("Primary: Advice minus Advice, opposite values"), "{}", said.out);
    assert_eq!(micro.results(), results_in(&reference().join("run")), "two folders, one result");
}

#[test]
fn a_second_run_does_nothing_and_prints_the_same() {
    let micro = Micro::finished();
    let before = changed_at(&micro.path("run/units"));
    let printed = micro.forwhy(&["report", "run"]).ends(0).out;
    let said = micro.run().ends(0);
    assert_eq!(said.out, printed);
    assert_eq!(said.err, "report: run/report.html\n");
    assert_eq!(changed_at(&micro.path("run/units")), before);
    assert_eq!(micro.results(), results_in(&reference().join("run")));
}

#[test]
fn json_on_stdout_is_the_results_file() {
    let micro = Micro::finished();
    let said = micro.forwhy(&["run", "study.toml", "--folder", "run", "--json"]).ends(0);
    assert_eq!(said.out, micro.read("run/results.json"));
}

#[test]
fn a_report_is_written_again_from_results_alone() {
    let micro = Micro::finished();
    let page = micro.read("run/report.html");
    std::fs::remove_file(micro.path("run/report.html")).unwrap();
    micro.forwhy(&["report", "run"]).ends(0);
    assert_eq!(micro.read("run/report.html"), page);
}

#[test]
fn a_report_of_no_run_folder_says_what_makes_one() {
    let micro = Micro::new();
    insta::assert_snapshot!(micro.forwhy(&["report", "nowhere"]).all(), @r###"
    exit Some(2)
    --- stdout
    --- stderr
    error: this is no finished run folder; `forwhy run` writes results.json when all units are done: cannot open nowhere/results.json: No such file or directory (os error 2)
    "###);
    std::fs::create_dir(micro.path("run")).unwrap();
    micro.write("run/results.json", "{\"schema\": 1");
    insta::assert_snapshot!(micro.forwhy(&["report", "run"]).all(), @r###"
    exit Some(2)
    --- stdout
    --- stderr
    error: cannot read run/results.json: results.json cannot be read: EOF while parsing an object at line 1 column 12
    "###);
}

#[test]
fn fault_8_budgets_run_one_after_the_other_complete_each_other() {
    let micro = Micro::new();
    micro.edit("study.toml", "\ntokens = [600]", "\ntokens = [600, 300]");
    let part =
        |budget: &str| micro.forwhy(&["run", "study.toml", "--folder", "run", "--budget", budget]);
    let first = part("300").ends(0);
    assert!(first.out.contains("3 units of the study have not been run yet"), "{}", first.out);
    let results = Results::from_json(&micro.read("run/results.json")).unwrap();
    assert_eq!(results.study.budgets, [300]);
    let before = changed_at(&micro.path("run/units"));
    let second = part("600").ends(0);
    assert!(!second.out.contains("have not been run yet"), "{}", second.out);
    let after = changed_at(&micro.path("run/units"));
    assert!(before.iter().all(|(path, time)| after[path] == *time), "old units were touched");
    let results = Results::from_json(&micro.read("run/results.json")).unwrap();
    let advice = results.arms.iter().find(|a| a.id == "advice").unwrap();
    assert_eq!(advice.checkpoints.len(), 2);
    for summary in results.arms.iter().flat_map(|a| &a.summaries) {
        let acts = summary.measures.evaluations.iter().filter_map(|e| e.outcomes.known());
        assert_eq!(acts.map(|o| o.counts.total()).sum::<u64>(), 16, "one a kind, all seen");
    }
}

#[test]
fn fault_8_an_unknown_budget_names_the_known_ones() {
    let said = Micro::new().forwhy(&["plan", "study.toml", "--budget", "700"]);
    insta::assert_snapshot!(said.all(), @r###"
    exit Some(2)
    --- stdout
    --- stderr
    error: no arm of this study has a budget of 700 tokens; budgets: [600]
    "###);
}
