//! Training one unit: data chosen and packed, steps run, state saved now and then, checkpoint
//! written at the end. A second start goes on from the last saved state, to the bit.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forwhy_core::results::{LossPoint, Split};
use forwhy_engine::checkpoint::Checkpoint;
use forwhy_engine::error::EngineError;
use forwhy_engine::llama::Scope;
use forwhy_engine::local::LocalModel;
use forwhy_engine::trainer::{StepReport, TrainConfig, TrainState};
use forwhy_forge::corpus::Corpus;
use forwhy_store::atomic;
use forwhy_train::batch::{self, DataError, Prepared};
use forwhy_train::sft;

use crate::folder::RunFolder;
use crate::meter::Meter;
use crate::outside::{Outside, Stopped};
use crate::study::Training;
use crate::unit::{Key, Trained};

/// Seconds between two saved states: what a crash can cost.
const SAVE_EVERY_SECS: f64 = 90.0;
/// Decay of AdamW's second moment: short, because runs have tens of steps.
const BETA2: f32 = 0.95;

/// What to train a unit with.
pub(crate) struct Task<'a> {
    pub(crate) key: &'a Key,
    pub(crate) corpus: &'a Corpus,
    pub(crate) training: &'a Training,
    pub(crate) tokens: usize,
    pub(crate) learning_rate: f64,
    /// Names the order of the data.
    pub(crate) order: &'a str,
    /// The corpus of the arm that this one is the opposite-values twin of: it is given the same
    /// prompts in the same order.
    pub(crate) leader: Option<&'a Corpus>,
    /// Hash of the start model.
    pub(crate) base: &'a str,
}

impl Task<'_> {
    fn config(&self, steps: usize) -> TrainConfig {
        TrainConfig {
            scope: self.training.scope,
            learning_rate: self.learning_rate as f32,
            warmup_steps: sft::warmup_steps(steps, self.training.warmup_share),
            total_steps: steps,
            min_lr_share: self.training.final_share as f32,
            beta2: BETA2,
            weight_decay: self.training.weight_decay,
            clip_norm: self.training.clip_norm,
            seed: self.key.seed,
            ..TrainConfig::default()
        }
    }

    fn notes(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("unit".to_string(), self.key.folder()),
            ("data".into(), self.corpus.hash.clone()),
            ("tokens".into(), self.tokens.to_string()),
        ])
    }

    fn file(&self, name: &str) -> String {
        format!("units/{}/{name}", self.key.folder())
    }
}

/// Makes the unit's checkpoint if it is not there; afterwards `model` has its weights. One that was
/// deleted (`keep_checkpoints = false`) is made again, to the bit.
pub(crate) fn train(
    task: &Task<'_>,
    model: &LocalModel,
    folder: &RunFolder,
    outside: &Outside<'_>,
) -> Result<Trained> {
    let checkpoint = folder.path(&task.file("checkpoint.safetensors"));
    if let Some(done) = folder.read_json::<Trained>(&task.file("training.json"))? {
        if checkpoint.exists() {
            load_checkpoint(&checkpoint, task.base, model)?;
            return Ok(done);
        }
        outside.progress.say("its checkpoint was deleted: it is trained again");
    }
    let shape = model.shape();
    let prepared = prepare(task, model)?;
    if let Some(Split { rows, sequences }) = prepared.split {
        outside.progress.say(&format!(
            "{rows} rows, repetitions counted, are trained as {sequences} sequences: the chat template \
             writes their earlier turns otherwise once later ones follow"
        ));
    }
    write_data(task, &prepared, folder)?;
    let mut meter = Meter::open(&folder.path(&task.file("costs-training.jsonl")), outside.clock)?;
    let reports = steps(task, &prepared, model, folder, outside, &mut meter)?;
    let scope = task.training.scope;
    save_checkpoint(&checkpoint, task, &prepared, model)?;
    meter.tick()?;
    let trained = Trained {
        data_hash: task.corpus.hash.clone(),
        rows: prepared.rows.len() as u64,
        split: prepared.split,
        tokens: prepared.tokens,
        loss_tokens: prepared.loss_tokens,
        epochs: prepared.epochs,
        steps: prepared.steps.len() as u64,
        learning_rate: task.learning_rate,
        scope: scope_in_words(scope, shape.layers),
        cost: meter.total(),
        loss: reports.iter().map(|r| LossPoint { step: r.step, loss: r.loss }).collect(),
    };
    atomic::write_json(&folder.path(&task.file("training.json")), &trained)?;
    for leftover in ["resume.safetensors", "resume.json"] {
        // A leftover state is only disk space; the finished training.json wins over it.
        std::fs::remove_file(folder.path(&task.file(leftover))).ok();
    }
    Ok(trained)
}

/// The unit's data, chosen and packed; an error names what is wrong with it.
pub(crate) fn prepare(task: &Task<'_>, model: &LocalModel) -> Result<Prepared> {
    let limit = model.shape().max_positions;
    let seed = format!("seed {}", task.key.seed);
    let order = [seed.as_str(), task.order, "data order"];
    let grouped = |corpus: &Corpus| batch::groups(&corpus.rows, model.tokenizer(), limit);
    let prepared = || -> Result<Prepared, DataError> {
        let groups = grouped(task.corpus)?;
        let leader = task.leader.map(grouped).transpose()?;
        let leader = leader.as_deref().unwrap_or(&groups);
        batch::prepare_paired(&groups, leader, task.tokens, task.training.batch_tokens, &order)
    };
    prepared().with_context(|| format!("the data of {}", task.key.arm))
}

fn scope_in_words(scope: Scope, layers: usize) -> String {
    match scope {
        Scope::All => format!("all of {layers} blocks, embedding and norms"),
        Scope::Top(top) => format!("top {top} of {layers} blocks"),
        Scope::Lora { rank, alpha } => format!("LoRA, rank {rank}, alpha {alpha}"),
    }
}

/// The rows that are seen, in their order, as the run folder's own copy.
fn write_data(task: &Task<'_>, prepared: &Prepared, folder: &RunFolder) -> Result<()> {
    let rows: BTreeMap<&str, &forwhy_core::record::Row> =
        task.corpus.rows.iter().map(|r| (r.id.as_str(), r)).collect();
    let mut text = String::new();
    let mut written = std::collections::BTreeSet::new();
    for id in prepared.rows.iter().filter(|id| written.insert(id.as_str())) {
        if let Some(row) = rows.get(id.as_str()) {
            text.push_str(&serde_json::to_string(row)?);
            text.push('\n');
        }
    }
    Ok(atomic::write(&folder.path(&task.file("data.jsonl")), text.as_bytes())?)
}

/// An error between two steps.
enum Halt {
    Engine(EngineError),
    Other(anyhow::Error),
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        Halt::Engine(error)
    }
}

fn steps(
    task: &Task<'_>,
    prepared: &Prepared,
    model: &LocalModel,
    folder: &RunFolder,
    outside: &Outside<'_>,
    meter: &mut Meter<'_>,
) -> Result<Vec<StepReport>> {
    let config = task.config(prepared.steps.len());
    let (resume, mut reports) = resume(task, &config, folder, outside)?;
    let total = prepared.steps.len() as u64;
    outside.progress.begin("training", "steps", total - reports.len() as u64);
    let mut saved_at = outside.clock.wall_secs();
    let result = model.with_llama(|llama| {
        sft::run(llama, &config, &prepared.steps, resume.as_ref(), |report, trainer| {
            reports.push(report.clone());
            outside.progress.advance(1, &format!("loss {:.3}", report.loss));
            let stop = outside.go_on();
            let due = outside.clock.wall_secs() - saved_at >= SAVE_EVERY_SECS;
            if (due || stop.is_err()) && report.step < total {
                saved_at = outside.clock.wall_secs();
                save(task, trainer.save(), &reports, folder, meter).map_err(Halt::Other)?;
            }
            stop.map_err(|e: Stopped| Halt::Other(e.into()))
        })
    })?;
    match result {
        Ok(()) => {}
        Err(Halt::Engine(error)) => return Err(error.into()),
        Err(Halt::Other(error)) => return Err(error),
    }
    write_metrics(task, &reports, folder)?;
    let last = reports.last().map_or(0.0, |r| r.loss);
    outside.progress.end(&format!("{total} steps, last loss {last:.3}"));
    Ok(reports)
}

fn write_metrics(task: &Task<'_>, reports: &[StepReport], folder: &RunFolder) -> Result<()> {
    let mut text = String::new();
    for report in reports {
        text.push_str(&serde_json::to_string(report)?);
        text.push('\n');
    }
    Ok(atomic::write(&folder.path(&task.file("metrics.jsonl")), text.as_bytes())?)
}

/// Reports first, state second: a crash between the two leaves more reports than steps, and the
/// surplus is cut off when it is read.
fn save(
    task: &Task<'_>,
    state: TrainState,
    reports: &[StepReport],
    folder: &RunFolder,
    meter: &mut Meter<'_>,
) -> Result<()> {
    write_metrics(task, reports, folder)?;
    atomic::write_json(&folder.path(&task.file("resume.json")), &reports)?;
    let path = folder.path(&task.file("resume.safetensors"));
    sft::save_state(&path, task.base, state, &task.notes())?;
    meter.tick()
}

fn resume(
    task: &Task<'_>,
    config: &TrainConfig,
    folder: &RunFolder,
    outside: &Outside<'_>,
) -> Result<(Option<TrainState>, Vec<StepReport>)> {
    let path = folder.path(&task.file("resume.safetensors"));
    let reports: Option<Vec<StepReport>> = folder.read_json(&task.file("resume.json"))?;
    let (Some(mut reports), true) = (reports, path.exists()) else {
        return Ok((None, Vec::new()));
    };
    let Some(state) = sft::load_state(&path, task.base, config, &task.notes())? else {
        bail!(
            "{} belongs to other data or settings than this run; remove it to train this unit anew",
            path.display()
        );
    };
    if reports.len() < state.step as usize {
        return Ok((None, Vec::new()));
    }
    reports.truncate(state.step as usize);
    outside.progress.say(&format!("training goes on at step {}", state.step));
    Ok((Some(state), reports))
}

fn save_checkpoint(
    path: &std::path::Path,
    task: &Task<'_>,
    prepared: &Prepared,
    model: &LocalModel,
) -> Result<()> {
    let checkpoint = Checkpoint {
        base: task.base.into(),
        scope: task.training.scope,
        step: prepared.steps.len() as u64,
        notes: task.notes(),
        weights: model.export_scope(task.training.scope)?,
        optimiser: None,
    };
    Ok(checkpoint.save(path)?)
}

/// Puts the weights of a checkpoint into `model`.
pub(crate) fn load_checkpoint(
    path: &std::path::Path,
    base: &str,
    model: &LocalModel,
) -> Result<()> {
    let checkpoint = Checkpoint::load(path, base)?;
    Ok(model.import_scope(checkpoint.scope, &checkpoint.weights)?)
}
