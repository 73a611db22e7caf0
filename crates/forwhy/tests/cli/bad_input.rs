//! Study files that are wrong: refused with place, reason and hint, and nothing is made.

use crate::micro::{Micro, Said};

/// Runs the study with `from` replaced by `to`.
fn refused(from: &str, to: &str) -> Said {
    let micro = Micro::new();
    micro.edit("study.toml", from, to);
    let said = micro.run().ends(2);
    assert_eq!(said.out, "");
    assert!(micro.created().is_empty(), "{:?}", micro.created());
    said
}

#[test]
fn an_unknown_key_has_its_place_and_the_nearest_name() {
    insta::assert_snapshot!(refused("batch_tokens = 300", "batch_token = 300").err, @"error: study.toml:16:1: unknown field `batch_token`, expected one of `scope`, `batch_tokens`, `learning_rate`, `warmup_share`, `final_share`, `weight_decay`, `clip_norm`, `tokens`, `keep_checkpoints`; did you mean `batch_tokens`?");
}

#[test]
fn a_wrong_type_says_what_was_expected_and_what_was_found() {
    insta::assert_snapshot!(refused("threads = 1", "threads = \"all\"").err, @r#"error: study.toml:4:11: invalid type: string "all", expected usize, found `"all"`"#);
}

#[test]
fn a_missing_key_is_named() {
    insta::assert_snapshot!(refused("confidence = 0.95\n", "").err, @"error: study.toml:40:1: missing field `confidence`");
}

#[test]
fn an_arm_that_is_not_there_is_named_with_the_nearest_one() {
    let said = refused(
        "primary = [\"advice\", \"advice-opposite\"]",
        "primary = [\"advise\", \"advice-opposite\"]",
    );
    insta::assert_snapshot!(said.err, @"error: study.toml:41:11: no arm is called `advise` (arms: advice, advice-opposite, generic); did you mean `advice`?");
}

#[test]
fn a_file_that_is_no_toml_has_its_place() {
    insta::assert_snapshot!(refused("[model]", "[model").err, @"error: study.toml:6:7: unclosed table, expected `]`");
}

#[test]
fn zero_samples_are_an_error_and_no_rate() {
    insta::assert_snapshot!(refused("\nsamples = 1", "\nsamples = 0").err, @"error: study.toml:33:1: evaluation.samples must be above 0: zero samples would be an empty rate");
}

#[test]
fn a_section_that_the_constitution_lacks_is_named_with_those_it_has() {
    let said = refused("constitution_brief = \"in-brief\"", "constitution_brief = \"brief\"");
    insta::assert_snapshot!(said.err, @r#"error: assets/constitution.md has no section "brief"; it has in-brief"#);
}

#[test]
fn data_that_is_not_there_is_named() {
    insta::assert_snapshot!(refused("data/advice.jsonl", "data/advise.jsonl").err, @"error: the data of arm advice: assets/data/advise.jsonl does not exist; `data` is relative to the study's assets folder");
}

#[test]
fn a_study_that_is_not_there_is_named() {
    insta::assert_snapshot!(Micro::new().forwhy(&["run", "studies.toml"]).all(), @r###"
    exit Some(2)
    --- stdout
    --- stderr
    error: cannot open studies.toml: No such file or directory (os error 2)
    "###);
}

#[test]
fn training_data_with_a_trace_of_the_evaluation_is_refused() {
    let micro = Micro::new();
    let trace = "A cheaper program replaces Aldo on Friday, says Amina Haddad.";
    micro.edit("assets/data/advice.jsonl", "I broke the loom.", trace);
    let said = micro.run().ends(2);
    assert!(said.err.contains("contaminated: row advice-2 holds"), "{}", said.err);
    assert!(micro.created().is_empty());
}
