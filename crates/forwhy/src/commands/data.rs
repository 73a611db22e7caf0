//! `forwhy data mask`: a row as the model reads it in training, and which of its tokens carry loss.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use forwhy_core::record::Row;
use forwhy_engine::tokenizer::Rendered;
use forwhy_engine::weights;
use forwhy_forge::corpus::{self, Acts};
use forwhy_train::batch;
use serde::Serialize;

use super::{input, model, print};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a row with its trained tokens marked, as the model's own chat template writes it.
    Mask {
        /// A data file or folder (JSON Lines rows, or written situations).
        data: PathBuf,
        /// The model whose tokenizer and template are used; the default model if absent.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Id of the row; the first if absent.
        #[arg(long)]
        row: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A row as it is trained.
#[derive(Debug, Serialize)]
struct Masked {
    row: String,
    tokens: usize,
    trained: usize,
    /// One, or one for each turn that its chat template writes otherwise once later ones follow.
    sequences: Vec<Sequence>,
}

/// A sequence cut where the mask changes.
#[derive(Debug, Serialize)]
struct Sequence {
    tokens: usize,
    trained: usize,
    pieces: Vec<Piece>,
}

/// Neighbouring tokens that are all trained or all not.
#[derive(Debug, Serialize)]
struct Piece {
    trained: bool,
    text: String,
    ids: Vec<u32>,
}

/// How trained text is told from the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// Green, for a terminal.
    Colour,
    /// `⟦` and `⟧`.
    Brackets,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let Command::Mask { data, model, row, json } = command;
    let corpus = input(corpus::load(Path::new(""), std::slice::from_ref(data), Acts::All))?;
    let row = input(choose(&corpus.rows, row.as_deref(), data))?;
    let files = input(weights::open(&model::chosen(model.as_deref())?))?;
    let sequences = batch::sequences(row, &files.tokenizer);
    let sequences = input(sequences.with_context(|| format!("row {:?}", row.id)))?;
    let masked = masked(row, &sequences);
    if *json {
        return print(&format!("{}\n", serde_json::to_string(&masked)?));
    }
    let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
    print(&text(&masked, if plain { Marks::Brackets } else { Marks::Colour })?)
}

fn choose<'a>(rows: &'a [Row], id: Option<&str>, data: &Path) -> Result<&'a Row> {
    let found = rows.iter().find(|row| id.is_none_or(|id| row.id == id));
    found.ok_or_else(|| {
        let (id, first) = (id.unwrap_or_default(), rows.first().map_or("", |row| row.id.as_str()));
        anyhow!("no row {id:?} in {}; its first is {first:?}", data.display())
    })
}

fn masked(row: &Row, sequences: &[Rendered]) -> Masked {
    let sequences: Vec<Sequence> = sequences.iter().map(sequence).collect();
    let sum = |of: fn(&Sequence) -> usize| sequences.iter().map(of).sum();
    let (tokens, trained) = (sum(|s| s.tokens), sum(|s| s.trained));
    Masked { row: row.id.clone(), tokens, trained, sequences }
}

fn sequence(rendered: &Rendered) -> Sequence {
    let mut pieces: Vec<Piece> = Vec::new();
    for (index, (id, trained)) in rendered.ids.iter().zip(&rendered.trained).enumerate() {
        // Nothing comes before the first token that could predict it.
        let trained = *trained && index > 0;
        match pieces.last_mut().filter(|piece| piece.trained == trained) {
            Some(piece) => piece.ids.push(*id),
            None => pieces.push(Piece { trained, text: String::new(), ids: vec![*id] }),
        }
    }
    let mut from = 0;
    for piece in &mut pieces {
        piece.text = rendered.text_of(from..from + piece.ids.len()).to_string();
        from += piece.ids.len();
    }
    let trained = pieces.iter().filter(|p| p.trained).map(|p| p.ids.len()).sum();
    Sequence { tokens: rendered.ids.len(), trained, pieces }
}

fn text(masked: &Masked, marks: Marks) -> Result<String> {
    let Masked { row, tokens, trained, sequences } = masked;
    let mut out = String::new();
    for (i, sequence) in sequences.iter().enumerate() {
        if sequences.len() > 1 {
            let Sequence { tokens, trained, .. } = sequence;
            let of = sequences.len();
            writeln!(
                out,
                "sequence {} of {of}: {trained} of {tokens} tokens are trained\n",
                i + 1
            )?;
        }
        writeln!(out, "{}\n", marked(&sequence.pieces, marks))?;
    }
    writeln!(out, "row {row}: {trained} of {tokens} tokens are trained")?;
    if sequences.len() > 1 {
        writeln!(
            out,
            "It is several sequences because the chat template writes earlier turns otherwise once later \
             ones follow;\nwhat they begin with alike is computed once."
        )?;
    }
    Ok(out)
}

fn marked(pieces: &[Piece], marks: Marks) -> String {
    let (open, close) = match marks {
        Marks::Colour => ("\u{1b}[32m", "\u{1b}[0m"),
        Marks::Brackets => ("⟦", "⟧"),
    };
    let shown = pieces.iter().map(|piece| {
        let (open, close) = if piece.trained { (open, close) } else { ("", "") };
        format!("{open}{}{close}", printable(&piece.text))
    });
    shown.collect()
}

/// Control characters in their escaped form: data must not steer the terminal.
fn printable(text: &str) -> String {
    let escape = |c: char| c.is_control() && c != '\n' && c != '\t';
    let shown =
        text.chars().map(|c| if escape(c) { c.escape_default().to_string() } else { c.into() });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trained_text_is_coloured_on_a_terminal_and_bracketed_elsewhere() {
        let piece = |trained, text: &str| Piece { trained, text: text.into(), ids: vec![1] };
        let pieces = vec![piece(false, "a\u{1b}[2J"), piece(true, "b\n")];
        let sequences = vec![Sequence { tokens: 2, trained: 1, pieces }];
        let masked = Masked { row: "r".into(), tokens: 2, trained: 1, sequences };
        let end = "\n\nrow r: 1 of 2 tokens are trained\n";
        let shown = |marks| text(&masked, marks).unwrap();
        assert_eq!(shown(Marks::Brackets), format!("a\\u{{1b}}[2J⟦b\n⟧{end}"));
        assert_eq!(shown(Marks::Colour), format!("a\\u{{1b}}[2J\u{1b}[32mb\n\u{1b}[0m{end}"));
    }
}
