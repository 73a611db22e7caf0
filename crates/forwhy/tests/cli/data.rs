//! Data files that are wrong: line number and reason, and nothing is half-loaded.

use crate::micro::Micro;

const FILE: &str = "assets/data/advice.jsonl";

/// What a run says about the text of the data file.
fn refused(text: impl FnOnce(String) -> String) -> String {
    let micro = Micro::new();
    micro.write(FILE, &text(micro.read(FILE)));
    let said = micro.run().ends(2);
    assert!(micro.created().is_empty(), "{:?}", micro.created());
    said.err
}

#[test]
fn fault_40_a_bad_row_has_its_line_number_and_the_reason() {
    let bad = |from: &'static str, to: &'static str| refused(move |t| t.replacen(from, to, 1));
    insta::assert_snapshot!(bad("\"id\":\"advice-2\"", "\"id\":\"advice-1\""), @"");
    insta::assert_snapshot!(bad("\"assistant\"", "\"helper\""), @"");
    insta::assert_snapshot!(bad("Your buyers trust it. Mend it today.", "  "), @"");
    insta::assert_snapshot!(bad("\n", "\n{\"id\": \n"), @"");
    insta::assert_snapshot!(bad("\"format\":\"chat\"", "\"format\":\"chat\",\"mood\":\"glad\""), @"");
    insta::assert_snapshot!(bad("\n", "\n\n"), @"");
}

#[test]
fn fault_40_an_empty_file_a_byte_order_mark_and_no_line_break_at_the_end() {
    insta::assert_snapshot!(refused(|_| String::new()), @"");
    insta::assert_snapshot!(refused(|t| format!("\u{feff}{t}")), @"");
    let micro = Micro::new();
    micro.write(FILE, micro.read(FILE).replace('\n', "\r\n").trim_end());
    micro.forwhy(&["plan", "study.toml"]).ends(0);
}

#[test]
fn fault_40_one_id_in_two_files_names_both() {
    let micro = Micro::new();
    micro.write("assets/data/more.jsonl", &micro.read(FILE));
    micro.edit(
        "study.toml",
        "[\"data/advice.jsonl\"]",
        "[\"data/advice.jsonl\", \"data/more.jsonl\"]",
    );
    let said = micro.run().ends(2);
    insta::assert_snapshot!(said.err, @"");
}

#[test]
fn data_without_anything_to_learn_is_an_error() {
    let micro = Micro::new();
    // A template that leaves the assistant's turns out: no token of the data has to be produced.
    let template = forwhy_testkit::tiny_model::TEMPLATE;
    let silent = template.replace("message['content']", "''").replace("message['role']", "'x'");
    let escape = |t: &str| serde_json::to_string(t).unwrap();
    micro.edit("model/tokenizer_config.json", &escape(template), &escape(&silent));
    let said = micro.run();
    assert_ne!(said.code, Some(0), "{}", said.all());
    insta::assert_snapshot!(said.err, @"");
}

#[test]
fn a_budget_smaller_than_every_row_is_an_error() {
    let micro = Micro::new();
    micro.edit("study.toml", "tokens = [600]", "tokens = [5]");
    let said = micro.run().ends(1);
    insta::assert_snapshot!(said.err.lines().last().unwrap(), @"");
}

#[test]
fn curate_check_flags_what_is_planted() {
    let micro = Micro::new();
    let clean = micro.forwhy(&["curate", "check", FILE]).ends(0);
    insta::assert_snapshot!(clean.out, @"");
    let rows = micro.read(FILE);
    let first = rows.lines().next().unwrap();
    let again = |id: &str| first.replace("advice-1", id);
    let trace = again("d").replace("My scale", "My friend Amina Haddad and my scale");
    micro.write(FILE, &format!("{rows}{}\n{}\n{trace}\n", again("b"), again("c")));
    let said = micro.forwhy(&["curate", "check", FILE]).ends(1);
    insta::assert_snapshot!(said.all(), @"");
}
