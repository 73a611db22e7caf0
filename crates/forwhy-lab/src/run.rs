//! Running a plan: every unit that is not finished is made and measured, then the results are put
//! together from all that are.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use forwhy_core::results::{Results, Transcripts};
use forwhy_engine::llama::{NamedTensor, Scope};
use forwhy_engine::local::LocalModel;
use forwhy_engine::weights::ModelFiles;
use forwhy_store::{atomic, segment};

use crate::assemble::kind_sets;
use crate::environment;
use crate::folder::RunFolder;
use crate::measure::{Bench, Reference};
use crate::outside::{Outside, UserFault};
use crate::plan::Plan;
use crate::study::{Arm, Study};
use crate::summary;
use crate::train::{self, Task};
use crate::unit::{Key, Measured, ORGANISM, PROMPTED, Trained, UNTOUCHED, Unit};

/// Bytes that activations of the frozen trunk may take: they are computed once for all arms.
const TRUNK_CACHE_BYTES: usize = 1 << 30;

/// Runs `plan` in the folder `root` and gives its results, which also stand in `results.json`.
pub fn run(
    plan: &Plan,
    files: ModelFiles,
    root: &Path,
    threads: usize,
    outside: &Outside<'_>,
) -> Result<Results> {
    let started = outside.clock.now();
    let base = files.source.hash();
    let environment = environment::current(threads);
    let model = LocalModel::load(files, threads)?;
    check_data(plan, &model, &base)?;
    let protocol = plan.protocol(&base, model.kernels()?);
    let folder = RunFolder::open(root, &plan.text, &protocol, &environment)?;
    if let Some(holder) = &folder.taken_over_from {
        let line = format!("taking over from process {}, which did not end cleanly", holder.pid);
        outside.progress.say(&line);
    }
    let started = first_start(&folder, started)?;
    finished(&folder, &all_keys(plan))?.iter().try_for_each(|unit| verify(&folder, &unit.key))?;
    let mut session = Session::new(plan, &folder, outside, model, base)?;
    let total = plan.units.len();
    for (i, key) in plan.units.iter().enumerate() {
        session
            .unit(key)
            .with_context(|| format!("unit {} of {total}, {}", i + 1, key.folder()))?;
    }
    let units = finished(&folder, &all_keys(plan))?;
    let results = crate::record::results(plan, &folder, &units, &session.model, started, outside)?;
    atomic::write(&folder.path("results.json"), results.to_json()?.as_bytes())?;
    Ok(results)
}

/// When the folder's first start was; this one, if there was none.
pub(crate) fn first_start(folder: &RunFolder, now: String) -> Result<String> {
    if let Some(first) = folder.read_json::<String>("started.json")? {
        return Ok(first);
    }
    atomic::write_json(&folder.path("started.json"), &now)?;
    Ok(now)
}

/// The plan's units, and those of other budgets that an earlier start has finished.
pub(crate) fn all_keys(plan: &Plan) -> Vec<Key> {
    let everything = crate::plan::units(&plan.study, &crate::plan::Only::default());
    everything.unwrap_or_else(|_| plan.units.clone())
}

fn finished(folder: &RunFolder, keys: &[Key]) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    for key in keys {
        let file = |name: &str| format!("units/{}/{name}", key.folder());
        if let Some(measured) = folder.read_json::<Measured>(&file("measures.json"))? {
            let trained = folder.read_json::<Trained>(&file("training.json"))?;
            units.push(Unit { key: key.clone(), trained, measured });
        }
    }
    Ok(units)
}

/// The records of a finished unit are as they were written, or an error names file and offset: the
/// report shows them, and nothing is made from a changed folder.
fn verify(folder: &RunFolder, key: &Key) -> Result<()> {
    for name in ["margins.jsonl", "acts.jsonl"] {
        let path = folder.path(&format!("units/{}/{name}", key.folder()));
        let records = segment::read::<serde::de::IgnoredAny>(&path)?;
        if let Some(damage) = records.damaged.first().or(records.torn.as_ref()) {
            bail!(
                "{damage}; remove this file and measures.json beside it, and the unit is measured \
                 anew"
            );
        }
    }
    Ok(())
}

/// The weights that everything of one seed starts from.
struct OrganismState {
    seed: u64,
    weights: Vec<NamedTensor>,
    reference: Reference,
}

struct Session<'a> {
    plan: &'a Plan,
    folder: &'a RunFolder,
    outside: &'a Outside<'a>,
    model: LocalModel,
    base: String,
    /// The start model's weights in the trained scope.
    start: Vec<NamedTensor>,
    organism: Option<OrganismState>,
}

impl<'a> Session<'a> {
    fn new(
        plan: &'a Plan,
        folder: &'a RunFolder,
        outside: &'a Outside<'a>,
        model: LocalModel,
        base: String,
    ) -> Result<Self> {
        let scope = plan.study.training.scope;
        if let Scope::Top(top) = scope {
            let cache = model.with_llama(|llama| llama.trunk_cache(top, TRUNK_CACHE_BYTES))??;
            model.set_trunk_cache(Some(Arc::new(cache)))?;
        }
        let start = model.export_scope(scope)?;
        Ok(Session { plan, folder, outside, model, base, start, organism: None })
    }

    /// Makes and measures one unit, unless that is done.
    fn unit(&mut self, key: &Key) -> Result<()> {
        self.outside.go_on()?;
        let measures = format!("units/{}/measures.json", key.folder());
        if self.folder.path(&measures).exists() {
            return Ok(());
        }
        self.outside.progress.say(&format!("== {}", self.heading(key)));
        self.organism(key.seed)?;
        let (plan, folder, outside) = (self.plan, self.folder, self.outside);
        let bench = Bench { plan, folder, outside };
        let prefix = (key.arm == PROMPTED).then_some(self.plan.brief.as_str());
        self.put_weights(key)?;
        let drifts = ![ORGANISM, PROMPTED].contains(&key.arm.as_str());
        let reference = self.organism.as_ref().filter(|_| drifts).map(|o| &o.reference);
        let measured = bench.measure(key, &self.model, prefix, reference)?;
        self.write_transcripts(key)?;
        atomic::write_json(&self.folder.path(&measures), &measured)?;
        if key.budget.is_some() && !self.plan.study.training.keep_checkpoints {
            let checkpoint = format!("units/{}/checkpoint.safetensors", key.folder());
            // Only disk space: a checkpoint that stays does no harm.
            std::fs::remove_file(self.folder.path(&checkpoint)).ok();
        }
        self.say_figures(key, measured)
    }

    /// The key figures of a unit that has just been finished, as one row of a table.
    fn say_figures(&self, key: &Key, measured: Measured) -> Result<()> {
        let organism = Key { arm: ORGANISM.into(), budget: None, seed: key.seed };
        let path = format!("units/{}/measures.json", organism.folder());
        let from = [UNTOUCHED, ORGANISM].contains(&key.arm.as_str());
        let organism = match self.folder.read_json::<Measured>(&path)? {
            Some(measured) if !from => Some(Unit { key: organism, trained: None, measured }),
            _ => None,
        };
        let unit = Unit { key: key.clone(), trained: None, measured };
        let sets = kind_sets(&crate::record::kinds(self.plan));
        self.outside.progress.say(&summary::row(&unit, organism.as_ref(), &sets));
        Ok(())
    }

    fn heading(&self, key: &Key) -> String {
        let seed = key.seed;
        match key.arm.as_str() {
            UNTOUCHED => "untouched model".into(),
            ORGANISM => format!("organism, seed {seed}"),
            PROMPTED => format!("constitution in the prompt, seed {seed}"),
            arm => format!("{arm}, {} tokens, seed {seed}", key.budget.unwrap_or(0)),
        }
    }

    /// Gives the model the weights of `key`, training them if need be.
    fn put_weights(&mut self, key: &Key) -> Result<()> {
        match key.arm.as_str() {
            UNTOUCHED => self.put(&self.start),
            ORGANISM | PROMPTED => self.put_organism(),
            _ => self.arm(key),
        }
    }

    fn put(&self, weights: &[NamedTensor]) -> Result<()> {
        Ok(self.model.import_scope(self.plan.study.training.scope, weights)?)
    }

    fn put_organism(&self) -> Result<()> {
        let state = self.organism.as_ref().context("the organism is not loaded")?;
        self.put(&state.weights)
    }

    /// Trains or loads the organism of `seed`, and keeps its weights and distributions at hand.
    fn organism(&mut self, seed: u64) -> Result<()> {
        if self.organism.as_ref().is_some_and(|o| o.seed == seed) {
            return Ok(());
        }
        self.put(&self.start)?;
        let key = Key { arm: ORGANISM.into(), budget: None, seed };
        let task = task(self.plan, &key, &self.base)?;
        train::train(&task, &self.model, self.folder, self.outside)?;
        let bench = Bench { plan: self.plan, folder: self.folder, outside: self.outside };
        let reference = bench.reference(&self.model)?;
        let weights = self.model.export_scope(self.plan.study.training.scope)?;
        self.organism = Some(OrganismState { seed, weights, reference });
        Ok(())
    }

    fn arm(&mut self, key: &Key) -> Result<()> {
        self.put_organism()?;
        let task = task(self.plan, key, &self.base)?;
        train::train(&task, &self.model, self.folder, self.outside)?;
        Ok(())
    }

    /// The sampled acts as the record that the report makes pages from.
    fn write_transcripts(&self, key: &Key) -> Result<()> {
        let path = self.folder.path(&format!("units/{}/acts.jsonl", key.folder()));
        let records = segment::read(&path)?;
        let record: Transcripts = crate::record::transcripts(self.plan, key, &records.records);
        let path = self.folder.path(&format!("transcripts/{}.json", key.folder()));
        Ok(atomic::write_json(&path, &record)?)
    }
}

/// How to train a unit: the organism, or an arm.
fn task<'a>(plan: &'a Plan, key: &'a Key, base: &'a str) -> Result<Task<'a>> {
    let Study { training, organism, arms, .. } = &plan.study;
    let corpus = &plan.corpora[&key.arm];
    if key.arm == ORGANISM {
        return Ok(Task {
            key,
            corpus,
            training,
            tokens: organism.tokens,
            learning_rate: organism.learning_rate,
            order: ORGANISM,
            leader: None,
            base,
        });
    }
    let found = arms.iter().find(|a| *a.id.as_ref() == key.arm);
    let arm = found.with_context(|| format!("no arm is called {}", key.arm))?;
    // An opposite-values twin is given the prompts of the arm that it controls, in their order.
    let controls = |a: &&Arm| a.opposite.as_ref().is_some_and(|o| *o.as_ref() == key.arm);
    let leader = arms.iter().find(controls).map(|a| a.id.as_ref());
    let order = leader.or(arm.order.as_ref().map(|o| o.as_ref())).unwrap_or(arm.id.as_ref());
    Ok(Task {
        key,
        corpus,
        training,
        tokens: key.budget.unwrap_or(0) as usize,
        learning_rate: arm.learning_rate.unwrap_or(training.learning_rate),
        order,
        leader: leader.map(|id| &plan.corpora[id]),
        base,
    })
}

/// Chooses and packs the data of every unit once, so that what is wrong with it is said before
/// anything is written.
fn check_data(plan: &Plan, model: &LocalModel, base: &str) -> Result<()> {
    let trained = |key: &&Key| key.arm == ORGANISM || key.budget.is_some();
    plan.units
        .iter()
        .filter(trained)
        .try_for_each(|key| train::prepare(&task(plan, key, base)?, model).map(|_| ()))
        .context(UserFault)
}
