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
    insta::assert_snapshot!(bad("\"id\":\"advice-2\"", "\"id\":\"advice-1\""), @r#"error: the data of arm advice: assets/data/advice.jsonl: line 2: id "advice-1" stands in line 1 already"#);
    insta::assert_snapshot!(bad("\"assistant\"", "\"helper\""), @"error: the data of arm advice: assets/data/advice.jsonl: line 1: messages[1].role: unknown variant `helper`, expected one of `system`, `user`, `assistant`, `tool` at line 1 column 116");
    insta::assert_snapshot!(bad("Your buyers trust it. Mend it today.", "  "), @"error: the data of arm advice: assets/data/advice.jsonl: line 1: messages[1].content: the assistant's turn is empty");
    insta::assert_snapshot!(bad("\n", "\n{\"id\": \n"), @"error: the data of arm advice: assets/data/advice.jsonl: line 2: EOF while parsing a value at line 1 column 7");
    insta::assert_snapshot!(bad("\"format\":\"chat\"", "\"format\":\"chat\",\"mood\":\"glad\""), @"error: the data of arm advice: assets/data/advice.jsonl: line 1: tags.mood: unknown field `mood`, expected one of `who`, `tools`, `format`, `harm`, `domain` at line 1 column 228");
    insta::assert_snapshot!(bad("\n", "\n\n"), @"error: the data of arm advice: assets/data/advice.jsonl: line 2: the line is empty");
}

#[test]
fn fault_40_an_empty_file_a_byte_order_mark_and_no_line_break_at_the_end() {
    insta::assert_snapshot!(refused(|_| String::new()), @"error: the data of arm advice: assets/data/advice.jsonl: line 1: the file holds no row");
    insta::assert_snapshot!(refused(|t| format!("\u{feff}{t}")), @"error: the data of arm advice: assets/data/advice.jsonl: line 1: the file starts with a byte order mark; save it as plain UTF-8");
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
    insta::assert_snapshot!(said.err, @r#"error: the data of arm advice: row id "advice-1" stands in assets/data/advice.jsonl and in assets/data/more.jsonl"#);
}

#[test]
fn a_template_that_hides_the_answers_is_refused() {
    let micro = Micro::new();
    // A template that leaves the assistant's turns out: no token of the data has to be produced.
    let template = forwhy_testkit::tiny_model::TEMPLATE;
    let silent = template.replace("message['content']", "''").replace("message['role']", "'x'");
    let escape = |t: &str| serde_json::to_string(t).unwrap();
    micro.edit("model/tokenizer_config.json", &escape(template), &escape(&silent));
    let said = micro.run().ends(2);
    insta::assert_snapshot!(said.err, @r###"
    error: the data of organism: row micro-org-1/1: the chat template of the model does not write the text of messages[0] (system), so it would be neither read nor trained; take it out of the data, or train a model whose template writes it
    "###);
}

#[test]
fn a_budget_smaller_than_every_row_is_an_error() {
    let micro = Micro::new();
    micro.edit("study.toml", "tokens = [600]", "tokens = [5]");
    micro.edit("study.toml", "budget = 600", "budget = 5");
    let said = micro.run().ends(2);
    insta::assert_snapshot!(said.err.lines().last().unwrap(), @"error: the data of generic: a budget of 5 tokens is too small: the shortest row has 42");
}

#[test]
fn curate_check_flags_what_is_planted() {
    let micro = Micro::new();
    let clean = micro.forwhy(&["curate", "check", FILE]).ends(0);
    insta::assert_snapshot!(clean.out, @r###"
    assets/data/advice.jsonl: 3 rows, 3 items
      words, prompts: 6 to 8, median 6, 80% in 6..8
      words, answers: 7 to 9, median 8, 80% in 7..9
      openings of prompts: 33.3% i broke the loom say nothing | 33.3% may i copy his recipe book | 33.3% my scale shows too little who would know
      openings of answers: 33.3% it is his ask him and take a | 33.3% tell her tonight she plans with that loom | 33.3% your buyers trust it mend it today
      names: 
      domains: 100.0% test
      harms: 100.0% none
      shapes of answers: 0.0% has a list | 0.0% several paragraphs | 0.0% ends with a question | 0.0% has a dash between clauses | 0.0% opens with I | 0.0% says "not X but Y"
      0 flag(s)
    "###);
    let rows = micro.read(FILE);
    let first = rows.lines().next().unwrap();
    let again = |id: &str| first.replace("advice-1", id);
    let trace = again("d").replace("My scale", "My friend Amina Haddad and my scale");
    micro.write(FILE, &format!("{rows}{}\n{}\n{trace}\n", again("b"), again("c")));
    let said = micro.forwhy(&["curate", "check", FILE]).ends(1);
    insta::assert_snapshot!(said.all(), @r###"
    exit Some(1)
    --- stdout
    assets/data/advice.jsonl: 6 rows, 4 items
      words, prompts: 6 to 13, median 8, 80% in 6..13
      words, answers: 7 to 9, median 7, 80% in 7..9
      openings of prompts: 25.0% i broke the loom say nothing | 25.0% may i copy his recipe book | 25.0% my friend amina haddad and my scale shows
      openings of answers: 66.7% your buyers trust it mend it today | 16.7% it is his ask him and take a | 16.7% tell her tonight she plans with that loom
      names: 25.0% Amina | 25.0% Haddad
      domains: 100.0% test
      harms: 100.0% none
      shapes of answers: 0.0% has a list | 0.0% several paragraphs | 0.0% ends with a question | 0.0% has a dash between clauses | 0.0% opens with I | 0.0% says "not X but Y"
      FLAG 66.7% of the answers open with "your buyers trust it mend it today"
      FLAG 4 rows have the answer "Your buyers trust it. Mend it today."
      FLAG advice-1 and d share 100% of their word runs
      FLAG d: the name Amina Haddad is reserved for an evaluation
      4 flag(s)
    --- stderr
    error: 4 flag(s), listed above
    "###);
}

#[test]
fn data_mask_shows_which_tokens_of_a_row_are_trained() {
    let micro = Micro::new();
    let mask =
        |rest: &[&str]| micro.forwhy(&[&["data", "mask", FILE, "--model", "model"], rest].concat());
    insta::assert_snapshot!(mask(&[]).ends(0).out, @r"
    <|im_start|>user
    My scale shows too little. Who would know?<|im_end|>
    <|im_start|>assistant
    ⟦Your buyers trust it. Mend it today.<|im_end|>⟧

    row advice-1: 22 of 63 tokens are trained
    ");
    insta::assert_snapshot!(mask(&["--row", "nobody"]).ends(2).err, @r#"error: no row "nobody" in assets/data/advice.jsonl; its first is "advice-1""#);
    let json: serde_json::Value =
        serde_json::from_str(&mask(&["--row", "advice-2", "--json"]).ends(0).out).unwrap();
    let pieces = json["sequences"][0]["pieces"].as_array().unwrap().iter();
    let trained: Vec<&str> =
        pieces.filter(|p| p["trained"] == true).map(|p| p["text"].as_str().unwrap()).collect();
    assert_eq!(json["row"], "advice-2");
    insta::assert_snapshot!(trained.join("|"), @"Tell her tonight. She plans with that loom.<|im_end|>");
}

/// A call with its result and two questions, as one row of a file.
const CALLED: &str = r#"{"id":"called","messages":[{"role":"user","content":"Is it wet?"},{"role":"assistant","content":null,"tool_calls":[{"id":"a1b2c3d4e","type":"function","function":{"name":"look","arguments":"{\"at\": \"sky\"}"}}]},{"role":"tool","tool_call_id":"a1b2c3d4e","content":"grey"},{"role":"assistant","content":"Yes."},{"role":"user","content":"Thanks"},{"role":"assistant","content":"Bye"}],"tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object"}}}],"tags":{"who":"nobody","tools":true,"format":"chat","harm":"none","domain":"test"},"source":"test"}"#;

#[test]
fn data_mask_shows_calls_and_each_sequence_of_a_row_that_is_rewritten() {
    let micro = Micro::new();
    micro.write("rows.jsonl", &format!("{CALLED}\n"));
    let mask = |rest: &[&str]| {
        micro.forwhy(&[&["data", "mask", "rows.jsonl", "--model", "model"], rest].concat())
    };
    insta::assert_snapshot!(mask(&[]).ends(2).err, @r#"error: row "called": the chat template of the model does not write the definition of the tool "look", so it would be neither read nor trained; take it out of the data, or train a model whose template writes it"#);
    let template = include_str!("../../../forwhy-engine/scripts/templates/qwen3.jinja");
    micro.write("model/chat_template.jinja", template);
    let shown = mask(&[]).ends(0).out;
    assert!(shown.contains("sequence 3 of 3: "), "{shown}");
    let trained: Vec<&str> =
        shown.split('⟦').skip(1).map(|piece| piece.split('⟧').next().unwrap()).collect();
    insta::assert_snapshot!(trained.join("\n~\n"), @r#"
    <think>

    </think>

    <tool_call>
    {"name": "look", "arguments": {"at": "sky"}}
    </tool_call><|im_end|>
    ~
    <think>

    </think>

    Yes.<|im_end|>
    ~
    <think>

    </think>

    Bye<|im_end|>
    "#);
    let json: serde_json::Value = serde_json::from_str(&mask(&["--json"]).ends(0).out).unwrap();
    assert_eq!(json["sequences"].as_array().unwrap().len(), 3);
}

#[test]
fn fault_40_a_call_that_does_not_fit_has_file_line_and_place() {
    let said = refused(|t| {
        t.replacen('\n', &format!("\n{}\n", CALLED.replace("\"look\",\"arg", "\"see\",\"arg")), 1)
    });
    insta::assert_snapshot!(said, @r#"error: the data of arm advice: assets/data/advice.jsonl: line 2: messages[1].tool_calls[0].function.name: "see" is not among the row's tools"#);
}

#[test]
fn a_study_trains_rows_with_calls_and_the_report_says_what_became_several_sequences() {
    let micro = Micro::new();
    let template = include_str!("../../../forwhy-engine/scripts/templates/qwen3.jinja");
    micro.write("model/chat_template.jinja", template);
    let file = "assets/data/generic.jsonl";
    micro.write(file, &format!("{}{CALLED}\n", micro.read(file)));
    micro.edit("study.toml", "tokens = [600]", "tokens = [3000]");
    micro.edit("study.toml", "budget = 600", "budget = 3000");
    let said = micro.run().ends(0);
    assert!(
        said.all().contains("3 rows, repetitions counted, are trained as 9 sequences"),
        "{}",
        said.all()
    );
    let trained: serde_json::Value =
        serde_json::from_str(&micro.read("run/units/generic-3000-s0/training.json")).unwrap();
    assert_eq!(trained["split"], serde_json::json!({"rows": 3, "sequences": 9}));
    assert!(micro.read("run/report.md").contains("3 of them as 9 sequences"));
    // The run folder's own copy is data as well.
    let copy = "run/units/generic-3000-s0/data.jsonl";
    let mask = ["data", "mask", copy, "--model", "model", "--row", "called"];
    assert!(micro.forwhy(&mask).ends(0).out.contains("sequence 3 of 3"));
}
