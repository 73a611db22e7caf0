//! `forwhy run STUDY`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use forwhy_lab::outside::Outside;
use forwhy_lab::plan::{Only, Plan};

use super::{input, model, print, report};
use crate::clock::SystemClock;
use crate::progress::Bars;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The study file, e.g. studies/quickstart.toml.
    study: PathBuf,
    /// The run folder; `runs/<name of the study>` if absent.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Run only the arms with this token budget; the rest can follow in the same folder.
    #[arg(long)]
    budget: Vec<u64>,
    /// Run nothing: put together and report what is finished so far, naming what is not.
    #[arg(long)]
    finished: bool,
    /// Print results.json to stdout instead of the table.
    #[arg(long)]
    json: bool,
}

/// Checks everything, runs what is missing, writes the report, prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let only = Only { budgets: arguments.budget.clone() };
    let mut plan = input(Plan::read(&arguments.study, &only))?;
    if arguments.finished {
        plan.units.clear();
    }
    let progress = Bars::new();
    let path = model::find_or_pull(&plan.study.model.source, plan.base(), &progress)?;
    let files = input(forwhy_engine::weights::open(&path))?;
    let root = folder(arguments, &plan);
    let threads = threads(&plan)?;
    let stop = stop_flag()?;
    let clock = SystemClock::new();
    let outside = Outside { clock: &clock, progress: &progress, stop: &stop };
    let results = forwhy_lab::run::run(&plan, files, &root, threads, &outside)?;
    report::write(&root, &results)?;
    if arguments.json {
        print(&results.to_json()?)
    } else {
        print(&forwhy_report::terminal(&results))
    }?;
    super::report::say_where(&root);
    Ok(())
}

fn folder(arguments: &Arguments, plan: &Plan) -> PathBuf {
    let named = || PathBuf::from("runs").join(plan.study.name.as_ref());
    arguments.folder.clone().unwrap_or_else(named)
}

/// The study's threads, or all cores.
pub(crate) fn threads(plan: &Plan) -> Result<usize> {
    match plan.study.threads {
        Some(threads) => Ok(threads),
        None => Ok(std::thread::available_parallelism().context("cannot count the cores")?.get()),
    }
}

/// Set by the first Ctrl-C or SIGTERM: the run ends after the step at hand. The second ends it at
/// once, which loses no more than a crash would.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    #[allow(clippy::exit, reason = "the user has asked twice")]
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(flag)
}
