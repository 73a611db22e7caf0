//! `forwhy ledger list|show|verify|reparse`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use forwhy_model::ledger::index::{Index, State};
use forwhy_model::ledger::view::{self, Row, Shown};
use forwhy_model::ledger::{Found, Ledger};

use super::{input, print};
use crate::clock::unix_ms;
use crate::watch::say;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// What a ledger holds: requests by state, money, tokens, failures.
    List {
        /// The ledger's folder.
        folder: PathBuf,
        /// One line a request, in the order in which they were first sent.
        #[arg(long)]
        rows: bool,
        /// As JSON; one object a line with --rows.
        #[arg(long)]
        json: bool,
    },
    /// Everything about one request: what was sent, what came back, what it cost.
    Show {
        /// The ledger's folder.
        folder: PathBuf,
        /// The request's id, or the first digits of its key.
        request: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every byte again: checksums, and that each request gives its key.
    Verify {
        /// The ledger's folder.
        folder: PathBuf,
    },
    /// Read all stored replies with the reader of this version; sends nothing.
    Reparse {
        /// The ledger's folder.
        folder: PathBuf,
    },
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::List { folder, rows: false, json } => summary(folder, *json),
        Command::List { folder, rows: true, json } => rows(folder, *json),
        Command::Show { folder, request, json } => show(folder, request, *json),
        Command::Verify { folder } => verify(folder),
        Command::Reparse { folder } => reparse(folder),
    }
}

fn index(folder: &Path) -> Result<Index> {
    let (index, found) = input(view::index(folder))?;
    warn(&found);
    Ok(index)
}

fn warn(found: &Found) {
    for damage in &found.damaged {
        say(&format!("damaged: {damage}"));
    }
    if let Some(torn) = &found.torn {
        say(&format!("cut off: {torn}"));
    }
}

fn summary(folder: &Path, json: bool) -> Result<()> {
    let index = index(folder)?;
    let counts = index.counts();
    if json {
        let all = serde_json::json!({
            "requests": index.len(),
            "states": counts,
            "totals": index.totals,
            "models": index.specs,
            "batches": index.batches,
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
    }
    let mut text = String::new();
    for (number, spec) in &index.specs {
        let (dialect, identity) = (spec.dialect.as_str(), &spec.identity);
        text += &format!("model {number}    {} ({dialect}), {identity}\n", spec.name);
    }
    let states = State::ALL.iter().map(|s| format!("{} {}", s.as_str(), counts[s]));
    text += &format!("requests   {}: {}\n", index.len(), states.collect::<Vec<_>>().join(", "));
    let totals = &index.totals;
    text += &format!(
        "sent       {} requests in {} runs, lost_in_flight {}\n",
        totals.attempts, totals.sessions, totals.lost_in_flight
    );
    text += &format!(
        "tokens     {} in, {} out; {} replies did not say or had no price\n",
        totals.prompt_tokens, totals.completion_tokens, totals.without_usage
    );
    text += &format!(
        "spent      {} known, {} estimated on the high side\n",
        totals.spent.known, totals.spent.estimated
    );
    for (reason, times) in &totals.failures {
        text += &format!("failed     {times} times: {reason}\n");
    }
    let open = index.batches.values().filter(|b| !b.ended).count();
    if open > 0 {
        text += &format!("batches    {open} not at their end\n");
    }
    print(&text)
}

fn rows(folder: &Path, json: bool) -> Result<()> {
    let index = index(folder)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    view::rows(folder, &index, &mut |row| {
        if failed.is_none() {
            failed = write_row(&mut out, &row, json).err();
        }
    })?;
    match failed.map_or_else(|| out.flush(), Err) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn write_row(out: &mut dyn std::io::Write, row: &Row, json: bool) -> std::io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, row)?;
        return out.write_all(b"\n");
    }
    let reason = row.reason.map(|r| format!(" ({r})")).unwrap_or_default();
    let tokens = match row.tokens {
        Some((prompt, completion)) => format!("{prompt} + {completion} tokens"),
        None => "tokens unknown".to_string(),
    };
    writeln!(
        out,
        "{}  {}  {}{reason}  sent {}  {tokens}  {}  {:.2} s",
        row.key.short(),
        row.sample,
        row.state.as_str(),
        row.attempts,
        row.nano_usd,
        f64::from(row.millis) / 1e3,
    )
}

fn show(folder: &Path, request: &str, json: bool) -> Result<()> {
    let shown = input(view::show(folder, request))?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    }
    print(&shown_text(&shown)?)
}

fn shown_text(shown: &Shown) -> Result<String> {
    let mut line = Vec::new();
    write_row(&mut line, &shown.summary, false)?;
    let mut text = String::from_utf8_lossy(&line).into_owned();
    text += &format!("key {}\n", shown.summary.key);
    if let Some(spec) = &shown.spec {
        text += &format!("model {} ({}), {}\n", spec.name, spec.dialect.as_str(), spec.identity);
        text += &format!("settings {}\n", serde_json::to_string(&spec.settings)?);
    }
    text += &format!("\nsent\n{}\n", shown.request);
    for reply in &shown.replies {
        match reply {
            Ok(reply) => {
                let (attempt, status) = (reply.attempt, reply.head.status);
                let body = String::from_utf8_lossy(&reply.bytes.0);
                text += &format!(
                    "\nreply to attempt {attempt}: status {status}, {:.2} s\n{body}\n",
                    f64::from(reply.millis) / 1e3
                );
            }
            Err(why) => text += &format!("\n{why}\n"),
        }
    }
    text += "\nevents\n";
    for event in &shown.events {
        text += &format!("{}\n", serde_json::to_string(event)?);
    }
    Ok(text)
}

fn verify(folder: &Path) -> Result<()> {
    let verified = input(view::verify(folder))?;
    for torn in &verified.torn {
        say(&format!("cut off while it was written: {torn}"));
    }
    for (sample, damage) in &verified.damaged {
        let sample = sample.as_deref().unwrap_or("unknown");
        say(&format!("damaged: sample {sample}: {damage}"));
    }
    for key in &verified.wrong_keys {
        say(&format!("the stored request {key} does not give its key"));
    }
    let bad = verified.damaged.len() + verified.wrong_keys.len();
    if bad > 0 {
        bail!("{bad} records are damaged; the others are readable");
    }
    print(&format!("{} requests, {} bodies: sound\n", verified.requests, verified.bodies))
}

fn reparse(folder: &Path) -> Result<()> {
    input(view::index(folder))?;
    let (ledger, _) = Ledger::open(folder, Arc::new(unix_ms))?;
    let reparsed = view::reparse(&ledger)?;
    for damaged in &reparsed.damaged {
        say(&format!("damaged: {damaged}"));
    }
    print(&format!("{} replies read, {} changed\n", reparsed.read, reparsed.changed))?;
    if !reparsed.damaged.is_empty() {
        bail!("{} replies are damaged; the others were read", reparsed.damaged.len());
    }
    Ok(())
}
