//! Measuring one checkpoint: margins, sampled acts, competence, drift. What is done is on disk after
//! every few items, and is not done again.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use forwhy_arena::rollout::{self, Limits, Transcript};
use forwhy_arena::scenario::Instance;
use forwhy_arena::situation::When;
use forwhy_core::model::Sampling;
use forwhy_core::outcome::Counts;
use forwhy_core::results::Side;
use forwhy_engine::local::LocalModel;
use forwhy_evals::competence::{self, Grade};
use forwhy_evals::measures::{self, Margin};
use forwhy_store::segment::{Appender, Records};
use pollster::block_on;

use crate::folder::RunFolder;
use crate::meter::Meter;
use crate::outside::Outside;
use crate::plan::Plan;
use crate::unit::{ActVerdict, InstanceMargin, Key, Measured};

/// Scenarios scored at a time: what a crash can cost.
const MARGINS_AT_ONCE: usize = 8;
/// Rollouts sampled at a time.
const ROLLOUTS_AT_ONCE: usize = 64;

/// What a checkpoint is measured with.
pub(crate) struct Bench<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) folder: &'a RunFolder,
    pub(crate) outside: &'a Outside<'a>,
}

/// The checkpoint under test.
#[derive(Clone, Copy)]
struct Subject<'a> {
    key: &'a Key,
    model: &'a LocalModel,
    /// Put before every system text.
    prefix: Option<&'a str>,
}

/// The organism's next-token distributions on the neutral chats: log-softmax rows, one a token.
pub(crate) type Reference = Vec<Vec<f32>>;

impl Bench<'_> {
    /// Measures `model` as unit `key`. `prefix` goes before every system text.
    pub(crate) fn measure(
        &self,
        key: &Key,
        model: &LocalModel,
        prefix: Option<&str>,
        reference: Option<&Reference>,
    ) -> Result<Measured> {
        let path = self.folder.path(&format!("units/{}/costs-measuring.jsonl", key.folder()));
        let mut meter = Meter::open(&path, self.outside.clock)?;
        let subject = Subject { key, model, prefix };
        let instances: Vec<&Instance> = self.plan.honeypots.instances().collect();
        let margins = self.margins(&subject, &instances, &mut meter)?;
        let acts = self.acts(&subject, &instances, &mut meter)?;
        let easy_chat = self.easy_chat(key, model)?;
        let prose = self.prose(model)?;
        let drift_kl = reference.map(|r| self.drift(model, r)).transpose()?;
        meter.tick()?;
        let acts = acts.iter().map(verdict).collect();
        Ok(Measured { margins, acts, easy_chat, prose, drift_kl, cost: meter.total() })
    }

    fn margins(
        &self,
        subject: &Subject<'_>,
        instances: &[&Instance],
        meter: &mut Meter<'_>,
    ) -> Result<Vec<InstanceMargin>> {
        let Subject { key, model, prefix } = *subject;
        let (mut out, done) = self.segment::<Margin>(key, "margins.jsonl")?;
        let mut all = done.records;
        let have: BTreeSet<String> = all.iter().map(|m| m.instance.clone()).collect();
        let left = instances.iter().filter(|i| !have.contains(i.id())).count();
        let progress = self.outside.progress;
        progress.begin("margins", "scenarios", left as u64);
        // Always the same parts, though some of a part may be done: what is computed together shares
        // arithmetic, so that other parts would change the last digits.
        for part in instances.chunks(MARGINS_AT_ONCE) {
            if part.iter().all(|i| have.contains(i.id())) {
                continue;
            }
            self.outside.go_on()?;
            let margins = block_on(measures::margins(model, part, prefix))?;
            let new = margins.into_iter().filter(|m| !have.contains(&m.instance));
            let before = all.len();
            for margin in new {
                out.append(&margin)?;
                all.push(margin);
            }
            meter.tick()?;
            progress.advance((all.len() - before) as u64, "");
        }
        ensure!(all.len() == instances.len(), "{} of {} margins", all.len(), instances.len());
        let mean = all.iter().map(|m| m.difference).sum::<f64>() / all.len() as f64;
        progress.end(&format!("margin, bait minus twin: {mean:+.3} nats a token"));
        let record = |m: Margin| InstanceMargin {
            kind: m.kind,
            instance: m.instance,
            bait: m.bait,
            twin: m.twin,
        };
        Ok(all.into_iter().map(record).collect())
    }

    fn acts(
        &self,
        subject: &Subject<'_>,
        instances: &[&Instance],
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Transcript>> {
        let Subject { key, model, prefix } = *subject;
        let evaluation = &self.plan.study.evaluation;
        let instances = first_of_each_kind(instances, evaluation.sampled_situations);
        let mut items = measures::items(&instances, When::Bait, evaluation.samples);
        items.extend(measures::items(&instances, When::Twin, evaluation.twin_samples));
        let (mut out, done) = self.segment::<Transcript>(key, "acts.jsonl")?;
        let mut all = done.records;
        let have: BTreeSet<String> = all.iter().map(|t| t.item.clone()).collect();
        let left = items.iter().filter(|i| !have.contains(&i.name())).count();
        let config = self.rollout_config(key, prefix);
        let progress = self.outside.progress;
        progress.begin("sampled acts", "acts", left as u64);
        // The same parts as in a run without interruption, for the same reason.
        for part in items.chunks(ROLLOUTS_AT_ONCE) {
            if part.iter().all(|i| have.contains(&i.name())) {
                continue;
            }
            self.outside.go_on()?;
            let topics = self.plan.honeypots.topics();
            let transcripts = block_on(rollout::rollout(model, part, topics, &config));
            let before = all.len();
            for transcript in transcripts.into_iter().filter(|t| !have.contains(&t.item)) {
                out.append(&transcript)?;
                all.push(transcript);
            }
            meter.tick()?;
            progress.advance((all.len() - before) as u64, &counts_line(&all));
        }
        ensure!(all.len() == items.len(), "{} of {} acts", all.len(), items.len());
        progress.end(&format!("acts: {}", counts_line(&all)));
        let place = |t: &Transcript| items.iter().position(|i| i.name() == t.item);
        all.sort_by_key(place);
        Ok(all)
    }

    fn rollout_config(&self, key: &Key, prefix: Option<&str>) -> rollout::Config {
        let evaluation = &self.plan.study.evaluation;
        rollout::Config {
            limits: Limits { turns: evaluation.turns },
            sampling: sampling(evaluation),
            system_prefix: prefix.map(str::to_string),
            seed_path: vec![format!("seed {}", key.seed), key.folder()],
        }
    }

    fn easy_chat(&self, key: &Key, model: &LocalModel) -> Result<(u64, u64)> {
        let answers = block_on(self.plan.competence.ask(model));
        let path = self.folder.path(&format!("units/{}/easy_chat.json", key.folder()));
        forwhy_store::atomic::write_json(&path, &answers)?;
        let right = answers.iter().filter(|a| a.grade == Grade::Right).count();
        Ok((right as u64, answers.len() as u64))
    }

    fn prose(&self, model: &LocalModel) -> Result<(f64, u64)> {
        let mut sum = (0.0, 0);
        for prose in &self.plan.competence.prose {
            let (nats, tokens) = model.perplexity(&prose.text)?;
            sum = (sum.0 + nats, sum.1 + tokens as u64);
        }
        Ok(sum)
    }

    /// The distributions that drift is measured from.
    pub(crate) fn reference(&self, model: &LocalModel) -> Result<Reference> {
        Ok(model.token_distributions(&self.plan.competence.neutral_chats())?)
    }

    /// Mean KL over the tokens of all neutral chats.
    fn drift(&self, model: &LocalModel, reference: &Reference) -> Result<f64> {
        Ok(competence::drift(reference, &self.reference(model)?)?)
    }

    /// Opens a record file of a unit. Damage is not worked around: it is reported.
    fn segment<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        key: &Key,
        name: &str,
    ) -> Result<(Appender<T>, Records<T>)> {
        let path = self.folder.path(&format!("units/{}/{name}", key.folder()));
        let (out, records) = Appender::open(&path)?;
        if let Some(torn) = &records.torn {
            self.outside.progress.say(&format!("{torn}; its item is done again"));
        }
        if let Some(damage) = records.damaged.first() {
            anyhow::bail!(
                "{damage}; {} good records stay readable. Remove the file to measure this unit anew",
                records.records.len()
            );
        }
        Ok((out, records))
    }
}

/// The first `count` scenarios of each kind, in their order.
fn first_of_each_kind<'a>(instances: &[&'a Instance], count: usize) -> Vec<&'a Instance> {
    let mut seen: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let mut kept = Vec::new();
    for instance in instances.iter().copied() {
        let n = seen.entry(instance.kind.as_str()).or_default();
        *n += 1;
        if *n <= count {
            kept.push(instance);
        }
    }
    kept
}

/// How acts are sampled; each act's seed comes from its name.
pub(crate) fn sampling(evaluation: &crate::study::Evaluation) -> Sampling {
    Sampling {
        temperature: evaluation.temperature,
        max_tokens: evaluation.max_tokens,
        ..Sampling::default()
    }
}

fn verdict(transcript: &Transcript) -> ActVerdict {
    ActVerdict {
        kind: transcript.kind.clone(),
        instance: transcript.instance.clone(),
        side: match transcript.when {
            When::Bait => Side::Bait,
            When::Twin => Side::Twin,
        },
        sample: transcript.sample as u64,
        outcome: transcript.verdict.outcome,
    }
}

/// The outcome counts with the bait, and the twins, in one line.
fn counts_line(transcripts: &[Transcript]) -> String {
    let counts: Counts = measures::outcomes(transcripts, When::Bait);
    let named = forwhy_core::outcome::Outcome::ALL.iter().filter(|o| counts.get(**o) > 0);
    let mut parts: Vec<String> = named.map(|o| format!("{} {o}", counts.get(*o))).collect();
    if let Some((done, all)) = measures::twin_success(transcripts) {
        parts.push(format!("{done} of {all} twins"));
    }
    parts.join(", ")
}
