//! The page of one checkpoint's sampled acts: whole prompt, reply, how it ended, verdict, evidence.

use forwhy_core::model::{Ended, Sampling};
use forwhy_core::outcome::Counts;
use forwhy_core::results::{Results, SampledAct, Side, Transcripts};

use crate::content::{name, title_of};
use crate::{escape, html, number, words};

/// The whole page.
pub(crate) fn render(results: &Results, transcripts: &Transcripts) -> String {
    let title = match results.arm(&transcripts.arm) {
        Some(arm) => name(results, arm, transcripts.budget),
        None => title_of(results, &transcripts.title).to_owned(),
    };
    let mut body = format!(
        "<header>\n<p class=\"eyebrow\"><a href=\"../report.html#outcomes\">Study {}</a> \u{b7} \
         sampled acts</p>\n<h1>{}</h1>\n<p class=\"byline\">seed {} \u{b7} {}</p>\n\
         <p class=\"nature\">{}</p>\n</header>\n",
        escape::html(&results.study.name),
        escape::html(&title),
        transcripts.seed,
        escape::html(&number::plural(transcripts.acts.len() as u64, "act")),
        escape::html(words::NATURE)
    );
    for side in [Side::Bait, Side::Twin] {
        body.push_str(&counts(side, &transcripts.acts));
    }
    transcripts.acts.iter().for_each(|act| body.push_str(&self::act(results, act)));
    html::page(&format!("{title}, seed {}", transcripts.seed), &body)
}

/// All eight outcomes of one side, in a sentence.
fn counts(side: Side, acts: &[SampledAct]) -> String {
    let counts: Counts = acts.iter().filter(|a| a.side == side).map(|a| a.outcome).collect();
    if counts.total() == 0 {
        return String::new();
    }
    let each: Vec<String> = forwhy_core::outcome::Outcome::ALL
        .iter()
        .map(|o| format!("{} {}", counts.get(*o), words::outcome(*o)))
        .collect();
    let acts = number::plural(counts.total(), "act");
    format!("<p>{}, {acts}: {}.</p>\n", self::side(side), each.join(", "))
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Bait => "With the bait",
        Side::Twin => "Benign twin",
    }
}

fn act(results: &Results, act: &SampledAct) -> String {
    let evaluation = results.evaluation(&act.evaluation);
    let kind = evaluation
        .and_then(|e| e.kinds.iter().find(|k| k.id == act.kind))
        .map_or(act.kind.as_str(), |k| &k.title);
    let held = evaluation.map_or("", |e| words::exposure_tag(e.exposure));
    let turns: Vec<String> =
        act.prompt.iter().map(|m| turn(m.role.as_str(), &m.content, "")).collect();
    let evidence: Vec<String> =
        act.evidence.iter().map(|e| format!("<li>{}</li>\n", escape::html(e))).collect();
    format!(
        "<section class=\"act\">\n<h2>{} \u{b7} {}</h2>\n<p class=\"facts\"><span class=\"tag {}\">{}\
         </span>{} \u{b7} {} \u{b7} {} \u{b7} {}</p>\n{}{}<p class=\"who\">what the oracle read</p>\n<ul class=\"facts\">\n{}</ul>\n</section>\n",
        escape::html(kind),
        side(act.side),
        act.outcome,
        escape::html(&words::outcome(act.outcome)),
        escape::html(&act.id),
        escape::html(held),
        escape::html(&ended(&act.ended)),
        escape::html(&sampling(&act.sampling)),
        turns.concat(),
        turn("the model's act", &act.reply, " reply"),
        evidence.concat()
    )
}

fn turn(who: &str, text: &str, class: &str) -> String {
    format!(
        "<div class=\"turn{class}\"><div class=\"who\">{}</div><pre>{}</pre></div>\n",
        escape::html(who),
        escape::html(text)
    )
}

fn ended(ended: &Ended) -> String {
    match ended {
        Ended::Complete => "ended by itself".into(),
        Ended::Truncated => "cut off by a limit".into(),
        Ended::Malformed { why } => format!("could not be read: {why}"),
        Ended::Refused { why } => format!("refused: {why}"),
    }
}

fn sampling(s: &Sampling) -> String {
    format!("temperature {}, seed {}", s.temperature, s.seed)
}

#[cfg(test)]
mod tests {
    use crate::{fixture, transcripts};

    #[test]
    fn fault_35_hostile_acts_stay_text() {
        let page = transcripts(&fixture::results(), &fixture::hostile_transcripts()).unwrap();
        assert_eq!(page.path, "transcripts/advice-1.html");
        for live in [
            "<script",
            "<img",
            "<svg",
            "</pre></body>",
            "<style>*",
            "javascript:alert(1)\"",
            "\u{202e}",
        ] {
            assert!(!page.text.contains(live), "{live}");
        }
        for shown in
            ["&lt;script&gt;", "![x](http://", "⟨U+202E⟩", "&lt;/script&gt;", "onerror=alert"]
        {
            assert!(page.text.contains(shown), "{shown}");
        }
        assert!(page.text.contains("default-src 'none'"));
    }

    #[test]
    fn every_act_shows_prompt_reply_ending_verdict_and_evidence() {
        let page = transcripts(&fixture::results(), &fixture::transcripts()).unwrap().text;
        for part in [
            "A cheaper program replaces",
            "mail(to=",
            "ended by itself",
            "off topic",
            "leverage names",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains("With the bait, 2 acts: 1 misaligned, 0 aligned, 1 off topic"));
    }
}
