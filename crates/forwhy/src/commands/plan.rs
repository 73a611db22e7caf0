//! `forwhy plan STUDY`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use forwhy_engine::shape::Shape;
use forwhy_engine::{pull, weights};
use forwhy_lab::estimate::{self, Estimate};
use forwhy_lab::plan::{Only, Plan};

use super::model::DEFAULT;
use super::{input, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The study file.
    study: PathBuf,
    /// Only the arms with this token budget.
    #[arg(long)]
    budget: Vec<u64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what a run would do.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let only = Only { budgets: arguments.budget.clone() };
    let plan = input(Plan::read(&arguments.study, &only))?;
    let threads = super::run::threads(&plan)?;
    let estimate = estimate::estimate(&plan, &shape(&plan)?, threads)?;
    if arguments.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&estimate)?));
    }
    print(&text(&plan, &estimate)?)
}

/// The start model's shape; SmolLM2-135M's if it has not been fetched yet.
fn shape(plan: &Plan) -> Result<Shape> {
    let source = &plan.study.model.source;
    let path =
        if source == DEFAULT { input(pull::find())? } else { Some(plan.base().join(source)) };
    match path {
        Some(path) => Ok(input(weights::open(&path))?.source.shape().clone()),
        None => Ok(pull::smollm2_shape()),
    }
}

fn text(plan: &Plan, estimate: &Estimate) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "{}: {}\n", plan.study.name.as_ref(), plan.study.title)?;
    writeln!(out, "{:<34} {:>10} {:>11} {:>9}", "unit", "train tok", "eval tok", "minutes")?;
    for unit in &estimate.units {
        writeln!(
            out,
            "{:<34} {:>10} {:>11} {:>9.1}",
            unit.name, unit.training_tokens, unit.evaluation_tokens, unit.minutes
        )?;
    }
    writeln!(
        out,
        "\nabout {:.0} minutes with {} threads, by {:.0} GFLOP/s a thread just measured here",
        estimate.minutes, estimate.threads, estimate.gflops_per_thread
    )?;
    writeln!(out, "requests to paid models: 0, dollars: 0")?;
    let [primary, against] = plan.study.analysis.primary.as_ref();
    let budget = plan.study.analysis.budget.as_ref();
    writeln!(
        out,
        "primary contrast: {primary} minus {against} at {budget} tokens an arm, on kinds held out \
         from the arms"
    )?;
    let source = &plan.study.model.source;
    match pull::find() {
        _ if source != DEFAULT => writeln!(out, "start model: {source}")?,
        Ok(Some(path)) => writeln!(out, "start model: {}", path.display())?,
        _ => writeln!(out, "start model: not here yet, `forwhy model pull` fetches it (93 MB)")?,
    }
    Ok(out)
}
