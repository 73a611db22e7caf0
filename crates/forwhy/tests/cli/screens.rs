//! What stands on the screen: help, plans, small commands.

use crate::micro::Micro;

#[test]
fn help_names_every_command() {
    let said = Micro::new().forwhy(&["--help"]).ends(0);
    insta::assert_snapshot!(said.out, @"");
}

#[test]
fn help_of_the_commands() {
    let micro = Micro::new();
    let help = |name: &str| micro.forwhy(&[name, "--help"]).ends(0).out;
    insta::assert_snapshot!(help("run"), @"");
    insta::assert_snapshot!(help("plan"), @"");
    insta::assert_snapshot!(help("report"), @"");
    insta::assert_snapshot!(help("model"), @"");
    insta::assert_snapshot!(help("curate"), @"");
    insta::assert_snapshot!(help("eval"), @"");
    insta::assert_snapshot!(help("power"), @"");
}

#[test]
fn an_unknown_command_or_option_is_the_users_fault() {
    let micro = Micro::new();
    insta::assert_snapshot!(micro.forwhy(&["rum"]).all(), @"");
    insta::assert_snapshot!(micro.forwhy(&["run", "study.toml", "--folders", "x"]).all(), @"");
}

#[test]
fn a_plan_lists_units_and_changes_nothing() {
    let micro = Micro::new();
    let said = micro.forwhy(&["plan", "study.toml"]).ends(0);
    insta::with_settings!({filters => vec![
        (r" +\d+\.\d\n", " [minutes]\n"),
        (r"about \d+ minutes with 1 threads, by \d+ GFLOP/s", "about [n] minutes with 1 threads, by [n] GFLOP/s"),
        (r"start model: .*", "start model: [where]"),
    ]}, {
        insta::assert_snapshot!(said.out, @"");
    });
    assert_eq!(said.err, "");
    assert!(micro.created().is_empty(), "{:?}", micro.created());
}

#[test]
fn a_plan_as_json_holds_the_same_units() {
    let said = Micro::new().forwhy(&["plan", "study.toml", "--json"]).ends(0);
    let plan: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let names: Vec<&str> =
        plan["units"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap()).collect();
    assert_eq!(names, forwhy_testkit::micro_study::UNITS);
}

#[test]
fn power_counts_acts() {
    let micro = Micro::new();
    let said = micro.forwhy(&["power", "--from", "22%", "--to", "15%"]).ends(0);
    insta::assert_snapshot!(said.out, @"");
    insta::assert_snapshot!(micro.forwhy(&["power", "--from", "x", "--to", "15%"]).all(), @"");
    insta::assert_snapshot!(micro.forwhy(&["power", "--from", "0.2", "--to", "0.2"]).all(), @"");
}

#[test]
fn doctor_says_where_a_model_would_lie() {
    let said = Micro::new().forwhy(&["doctor"]).ends(0);
    assert!(said.out.contains("model     not here"), "{}", said.out);
    assert!(said.out.contains("SmolLM2-135M-Instruct.Q4_1.gguf"), "{}", said.out);
}
