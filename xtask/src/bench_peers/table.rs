//! Medians, ratios, and how they are shown.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::turns::Figures;

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// One figure of a row.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    /// Its name in what the programs say.
    pub(super) figure: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
}

/// The speed of training and of decoding.
pub(super) const RATE: Measure =
    Measure { figure: "tokens_per_cpu_sec", unit: "tokens/CPU-s", better: Better::Higher };

/// A line of the table.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    name: String,
    ours: f64,
    /// None: the peer is not on this machine.
    peer: Option<f64>,
    /// Above 1 where ours is better.
    ratio: Option<f64>,
    unit: &'static str,
}

impl Line {
    /// From the figures of all rounds; no rounds of a peer that is missing.
    pub(super) fn new(
        name: &str,
        measure: &Measure,
        ours: &[Figures],
        peer: &[Figures],
    ) -> Result<Self> {
        let ours = median(of(measure, ours).with_context(|| format!("{name}, ours"))?)?;
        let peer = match peer {
            [] => None,
            peer => Some(median(of(measure, peer).with_context(|| format!("{name}, the peer"))?)?),
        };
        let ratio = peer.map(|peer| match measure.better {
            Better::Higher => ours / peer,
            Better::Lower => peer / ours,
        });
        Ok(Line { name: name.into(), ours, peer, ratio, unit: measure.unit })
    }
}

fn of(measure: &Measure, rounds: &[Figures]) -> Result<Vec<f64>> {
    let figure = |round: &Figures| {
        let value = round.get(measure.figure).and_then(Value::as_f64);
        let value = value.with_context(|| format!("no figure {}", measure.figure))?;
        ensure!(value.is_finite() && value > 0.0, "{} = {value}", measure.figure);
        Ok(value)
    };
    rounds.iter().map(figure).collect()
}

/// The middle value; of an even number, the mean of the two.
fn median(mut values: Vec<f64>) -> Result<f64> {
    ensure!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    Ok(match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    })
}

/// An array of `{name, ours, peer, ratio, unit}`; `peer` and `ratio` are null where it is missing.
pub(super) fn json(lines: &[Line]) -> Value {
    let line = |l: &Line| json!({ "name": l.name, "ours": l.ours, "peer": l.peer, "ratio": l.ratio, "unit": l.unit });
    lines.iter().map(line).collect()
}

/// A Markdown table.
pub(super) fn text(lines: &[Line]) -> String {
    let mut out = String::from("| what | ours | peer | ratio | unit |\n|---|---|---|---|---|\n");
    for Line { name, ours, peer, ratio, unit } in lines {
        let peer = peer.map_or("missing".into(), shown);
        let ratio = ratio.map_or("unknown".into(), |ratio| format!("{ratio:.2}"));
        let ours = shown(*ours);
        writeln!(out, "| {name} | {ours} | {peer} | {ratio} | {unit} |")
            .unwrap_or_else(|_| unreachable!("a string takes any text"));
    }
    out
}

/// Three digits or more.
fn shown(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Measure = Measure { figure: "cpu_secs", unit: "CPU-s", better: Better::Lower };

    fn rounds(figure: &str, values: &[f64]) -> Vec<Figures> {
        values.iter().map(|v| [(figure.to_string(), json!(v))].into_iter().collect()).collect()
    }

    #[test]
    fn a_ratio_above_one_means_ours_is_better_whichever_way_the_figure_goes() {
        let ours = rounds("tokens_per_cpu_sec", &[1.0, 90.0, 100.0, 110.0, 999.0]);
        let peer = rounds("tokens_per_cpu_sec", &[50.0; 5]);
        assert_eq!(Line::new("a", &RATE, &ours, &peer).unwrap().ratio, Some(2.0));
        let (ours, peer) = (rounds("cpu_secs", &[2.0; 5]), rounds("cpu_secs", &[3.0; 5]));
        assert_eq!(Line::new("a", &COST, &ours, &peer).unwrap().ratio, Some(1.5));
    }

    #[test]
    fn a_missing_peer_is_null_and_not_zero() {
        let line = Line::new("a", &COST, &rounds("cpu_secs", &[2.0; 5]), &[]).unwrap();
        let shown = json(std::slice::from_ref(&line)).to_string();
        let want = r#"[{"name":"a","ours":2.0,"peer":null,"ratio":null,"unit":"CPU-s"}]"#;
        assert_eq!(shown, want);
        assert!(text(&[line]).contains("| a | 2.000 | missing | unknown | CPU-s |"));
    }

    #[test]
    fn a_median_of_an_even_number_is_between_the_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]).unwrap(), 2.5);
        assert!(median(Vec::new()).is_err());
    }

    #[test]
    fn figures_that_are_missing_or_no_number_are_refused() {
        let refused = |rounds: Vec<Figures>| {
            format!("{:#}", Line::new("a", &COST, &rounds, &[]).unwrap_err())
        };
        assert!(refused(rounds("seconds", &[1.0])).contains("a, ours: no figure cpu_secs"));
        assert!(refused(rounds("cpu_secs", &[0.0])).contains("cpu_secs = 0"));
    }
}
