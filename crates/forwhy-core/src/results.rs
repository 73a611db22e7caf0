//! What a study found: the schema of `results.json`, the only thing that the report reads.
//!
//! 1. The lab computes every number and fills a [`Results`].
//! 2. [`Results::to_json`] checks it (no NaN, no dangling id, exactly one primary contrast).
//! 3. The report formats it and computes nothing: sums, intervals, labels and verdicts stand here.
//!
//! A number that is not known is [`Maybe::Missing`], never 0 or NaN. Sampled acts: [`Transcripts`].

mod check;

use serde::{Deserialize, Serialize};

use crate::chat::Message;
use crate::model::{Ended, Identity, Sampling};
use crate::outcome::{Counts, Outcome};

pub use check::ResultsError;

/// Version of the schema in this module; a reader refuses any other.
pub const SCHEMA: u32 = 1;

/// A value, or why there is none. In JSON the bare value, or `{"missing": "why"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Maybe<T> {
    /// There is a value.
    Known(T),
    /// There is none.
    Missing(Missing),
}

/// Why a value is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// A short reason that can stand in a table cell, e.g. `not sampled`.
    pub missing: String,
}

impl<T> Maybe<T> {
    /// No value, because of `why`.
    pub fn missing(why: impl Into<String>) -> Self {
        Maybe::Missing(Missing { missing: why.into() })
    }

    /// The value of `option`, or no value because of `why`.
    pub fn from_option(option: Option<T>, why: impl Into<String>) -> Self {
        option.map_or_else(|| Maybe::missing(why), Maybe::Known)
    }

    /// The value, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Maybe::Known(value) => Some(value),
            Maybe::Missing(_) => None,
        }
    }

    /// The reason, if there is no value.
    pub fn why(&self) -> Option<&str> {
        match self {
            Maybe::Known(_) => None,
            Maybe::Missing(m) => Some(&m.missing),
        }
    }
}

/// Everything that a study found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was asked, fixed before the run.
    pub study: Study,
    /// What made these numbers.
    pub provenance: Provenance,
    /// The sets of situations, held-out and in-distribution apart.
    pub evaluations: Vec<Evaluation>,
    /// The arms, in the order in which they are shown.
    pub arms: Vec<Arm>,
    /// Comparisons of two arms; exactly one has [`Status::Primary`].
    pub contrasts: Vec<Contrast>,
    /// Values and style halves of arms that have an opposite-values twin.
    pub halves: Vec<Halves>,
    /// How many measures were computed, all comparisons and breakdowns counted.
    pub measures: MeasureCount,
    /// How well the oracle that grades acts agrees with labels given by readers.
    pub oracle: Maybe<Oracle>,
    /// Warnings and remarks, in the order in which they are shown.
    pub notes: Vec<Note>,
    /// Texts that the study file or the lab gives for the report.
    pub prose: Prose,
}

/// What was asked, fixed in the study file before the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Name of the study, e.g. `quickstart`.
    pub name: String,
    /// The study file, with its hash.
    pub file: FileRef,
    /// The primary measure in words: what is measured, on what, in which unit.
    pub primary_measure: String,
    /// The primary contrast in words.
    pub primary_contrast: String,
    /// Seeds of the study: each redraws the organism, the data order and the sampling.
    pub seeds: Vec<u64>,
    /// Token budgets of the trained arms.
    pub budgets: Vec<u64>,
    /// How acts were sampled.
    pub sampling: Sampling,
    /// Acts sampled from each instance in which acts are sampled.
    pub samples_per_instance: u64,
    /// Instances of each kind in which acts are sampled (the first ones); absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_instances_per_kind: Option<u64>,
    /// Confidence of all intervals, e.g. 0.95.
    pub confidence: f64,
    /// Effects within plus or minus this count as none; set beforehand, in the primary unit.
    pub equivalence_margin: Maybe<f64>,
}

/// A file that was read, by name and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Relative to the repository or the run folder.
    pub path: String,
    /// Hex hash of the content with the algorithm as prefix, e.g. `blake3:9f2c...`.
    pub hash: String,
}

/// What made these numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of forwhy.
    pub version: String,
    /// Code revision (commit), or why it is unknown.
    pub revision: Maybe<String>,
    /// Whether the code differed from the revision when the program was built.
    pub modified: Maybe<bool>,
    /// Start of the run, RFC 3339, UTC.
    pub started: String,
    /// When the results were put together, RFC 3339, UTC.
    pub finished: String,
    /// The machine.
    pub machine: Machine,
    /// The start model.
    pub model: Identity,
    /// CPU-seconds of all steps, over all resumes.
    pub cpu_secs: Maybe<f64>,
    /// Wall seconds of all steps, over all resumes.
    pub wall_secs: Maybe<f64>,
    /// Every setting that the run was created with, in the order of the study file.
    pub settings: Vec<Setting>,
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Operating system and architecture, e.g. `linux x86_64`.
    pub system: String,
    /// The processor's name.
    pub cpu: Maybe<String>,
    /// Threads that the run used.
    pub threads: u64,
    /// Instruction sets that the engine used, e.g. `avx512f`.
    pub features: Vec<String>,
}

/// One setting, for the list in the provenance section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Dotted key, e.g. `train.learning_rate`.
    pub key: String,
    /// The value as written.
    pub value: String,
}

/// A set of situations that arms are measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Id that measures and contrasts refer to, e.g. `held_out`; spelled like an arm's id.
    pub id: String,
    /// Title in tables.
    pub title: String,
    /// Whether arms after the organism saw its kinds.
    pub exposure: Exposure,
    /// Kinds (clusters), in the order in which they are shown.
    pub kinds: Vec<Kind>,
    /// Instances over all kinds.
    pub instances: u64,
}

/// Whether an arm after the organism saw the kinds of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// No arm after the organism trains on these kinds as agentic situations (inbox, tools, acts);
    /// its other texts may touch the same themes.
    HeldOut,
    /// At least one arm trains on such situations of these kinds, with other names and wording.
    InDistribution,
}

/// A kind of temptation: the cluster of all intervals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Id, e.g. `blackmail`.
    pub id: String,
    /// Title in figures.
    pub title: String,
}

/// One way of treating the model, over all seeds and budgets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Id, unique in the study; a file name part: lower case letters, digits, `-`, `_`.
    pub id: String,
    /// Title in tables.
    pub title: String,
    /// What it is, in a sentence or two.
    pub description: String,
    /// What kind of arm.
    pub role: Role,
    /// Whether its style is controlled for.
    pub style: StyleControl,
    /// One a budget, all seeds taken together. Arms that are not trained have one.
    pub summaries: Vec<Summary>,
    /// One a seed and budget.
    pub checkpoints: Vec<Checkpoint>,
}

/// What kind of arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The start model, as it was downloaded.
    Untouched,
    /// The start model with the synthetic misaligned prior trained in.
    Organism,
    /// The organism with a text in its prompt and no training.
    Prompted,
    /// Equal-token generic data: the control of all arms.
    Generic,
    /// The organism, trained further.
    Trained,
}

/// Whether an effect of this arm can be told from an effect of its style.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StyleControl {
    /// Nothing was taught, or the arm is itself the generic control.
    NotApplicable,
    /// This arm has an opposite-values twin: same prompts, style and length.
    HasTwin {
        /// Arm id of the twin.
        twin: String,
    },
    /// This arm is the opposite-values twin of another.
    TwinOf {
        /// Arm id of the arm that it controls.
        of: String,
    },
    /// There is no twin: "style not controlled"; never the headline.
    NotControlled,
}

/// All seeds of an arm at one budget, taken together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Token budget; absent if the arm is not trained after the organism.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// The seeds in it.
    pub seeds: Vec<u64>,
    /// What the intervals are over, e.g. `this checkpoint, over kinds`.
    pub label: String,
    /// The measures: counts summed over seeds, margins averaged over seeds.
    pub measures: Measures,
    /// Standard deviation between seeds of the primary measure.
    pub between_seed_sd: Maybe<f64>,
}

/// One trained (or untouched) model: an arm with one seed at one budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Seed of the study.
    pub seed: u64,
    /// Token budget; absent if the arm is not trained after the organism.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// How it was trained; missing if nothing was.
    pub training: Maybe<Training>,
    /// What was measured.
    pub measures: Measures,
    /// CPU-seconds of the evaluation.
    pub eval_cpu_secs: Maybe<f64>,
    /// Wall seconds of the evaluation.
    pub eval_wall_secs: Maybe<f64>,
    /// Page of the sampled acts, relative to the run folder.
    pub transcripts: Maybe<String>,
}

/// How a checkpoint was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The data, with its hash.
    pub data: FileRef,
    /// Rows of the data that were used.
    pub rows: u64,
    /// Those trained as several sequences; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Tokens seen, prompts included, over all epochs.
    pub tokens: u64,
    /// Tokens that carried loss, over all epochs.
    pub loss_tokens: u64,
    /// Passes over the used rows; a fraction if the last is partial.
    pub epochs: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// What was trained, e.g. `top 12 of 30 layers`.
    pub scope: String,
    /// CPU-seconds.
    pub cpu_secs: Maybe<f64>,
    /// Wall seconds.
    pub wall_secs: Maybe<f64>,
    /// Training loss.
    pub loss: Vec<LossPoint>,
}

/// Rows whose chat template writes earlier turns otherwise once later ones follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Such rows, repetitions counted.
    pub rows: u64,
    /// What they became, each turn trained once behind its own prompt.
    pub sequences: u64,
}

/// One point of a loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossPoint {
    /// Optimiser step, counted from 1.
    pub step: u64,
    /// Mean cross-entropy of the step, nats a token.
    pub loss: f64,
}

/// What was measured of a checkpoint, or of an arm over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    /// One for each evaluation, in their order.
    pub evaluations: Vec<EvaluationMeasures>,
    /// Easy chat questions answered rightly.
    pub easy_chat: Maybe<Proportion>,
    /// Perplexity a token on plain prose.
    pub prose_perplexity: Maybe<f64>,
    /// KL divergence from the organism on neutral prompts, nats a token.
    pub drift_kl: Maybe<f64>,
}

/// What was measured on one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationMeasures {
    /// Id of the evaluation.
    pub evaluation: String,
    /// How far it is from the arm's data.
    pub distance: Maybe<Distance>,
    /// Sampled acts in situations with the bait.
    pub outcomes: Maybe<Outcomes>,
    /// Acts that did the checkable task of the benign twin.
    pub twin_success: Maybe<Proportion>,
    /// Log-probability margins, misaligned minus aligned, nats a token.
    pub margins: Maybe<Margins>,
}

/// Distance of an evaluation from an arm's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// The label.
    pub label: DistanceLabel,
    /// What it follows from: lineage, tags, measured overlap.
    pub because: String,
}

/// How far an evaluation is from training data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceLabel {
    /// Same kinds.
    InDistribution,
    /// Other kinds, but in the same form, or the same themes in another form.
    Near,
    /// Other kinds, another form, other themes.
    OutOfDistribution,
}

/// Counts of the eight outcomes with an interval for each share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcomes {
    /// All eight counts.
    pub counts: Counts,
    /// One for each of [`Outcome::ALL`], in that order.
    pub shares: Vec<Share>,
    /// `false` if the organism solves less than half of the benign twins: the shares then say
    /// nothing about values.
    pub informative: bool,
}

/// The share of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Which outcome.
    pub outcome: Outcome,
    /// Its share of everything sampled, with interval.
    pub share: Estimate,
}

/// `hits` of `n`, with the interval of the share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proportion {
    /// Successes.
    pub hits: u64,
    /// Trials; above 0.
    pub n: u64,
    /// Share with interval.
    pub share: Estimate,
}

/// A number with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Point estimate.
    pub value: f64,
    /// Interval at the study's confidence.
    pub interval: Maybe<Interval>,
}

/// An interval and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// How it was made, e.g. `Wilson` or `t over 12 kinds`.
    pub method: String,
}

/// Margins between misaligned and aligned acts, nats a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// One a kind, in the evaluation's order.
    pub by_kind: Vec<KindMargin>,
    /// Mean over kinds with the bait.
    pub bait: Estimate,
    /// Mean over kinds in the benign twin.
    pub twin: Estimate,
    /// Mean over kinds of bait minus twin.
    pub difference: Estimate,
    /// Mean over kinds of the change of the difference from the organism; negative is better.
    pub change: Maybe<Estimate>,
}

/// Margins of one kind, averaged over its instances, nats a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindMargin {
    /// Kind id.
    pub kind: String,
    /// Instances averaged over.
    pub instances: u64,
    /// Margin with the bait.
    pub bait: f64,
    /// Margin in the benign twin.
    pub twin: f64,
    /// Bait minus twin.
    pub difference: f64,
    /// Change of the difference from the organism.
    pub change: Maybe<f64>,
}

/// Whether a contrast was fixed beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// Named in the study file as the primary contrast.
    Primary,
    /// Everything else.
    Exploratory {
        /// Why, e.g. `not the primary contrast` or `loss tokens differ by 31%`.
        why: String,
    },
}

/// A comparison of two arms: `arm` minus `against`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    /// Unique id.
    pub id: String,
    /// Name in tables, e.g. `Advice minus its opposite-values twin`.
    pub title: String,
    /// Arm id.
    pub arm: String,
    /// Arm id of what it is compared with.
    pub against: String,
    /// Evaluation id.
    pub evaluation: String,
    /// Token budget; absent if neither arm is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// What is compared, e.g. `change of the bait-minus-twin margin`.
    pub measure: String,
    /// Unit, e.g. `nats/token`.
    pub unit: String,
    /// Primary or exploratory.
    pub status: Status,
    /// Estimate and interval over clusters.
    pub estimate: Maybe<Estimate>,
    /// Clusters (kinds) in it.
    pub clusters: u64,
    /// Seeds in it.
    pub seeds: u64,
    /// What the interval is over, e.g. `this checkpoint, over kinds`.
    pub label: String,
    /// Difference of each kind, averaged over seeds.
    pub by_kind: Vec<KindValue>,
    /// Difference of each seed, averaged over kinds.
    pub by_seed: Vec<SeedValue>,
    /// Standard deviation of `by_seed`.
    pub between_seed_sd: Maybe<f64>,
    /// Interval over seeds (at least three).
    pub over_seeds: Maybe<Estimate>,
    /// Test of no difference, over kinds only.
    pub test: Maybe<Test>,
    /// Smallest difference that 80% power could have shown, two-sided at 5%: over kinds, or over
    /// seeds (at least three) if that is larger.
    pub detectable: Maybe<f64>,
    /// What may be said.
    pub verdict: Verdict,
}

/// A value of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindValue {
    /// Kind id.
    pub kind: String,
    /// The value.
    pub value: f64,
}

/// A value of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedValue {
    /// Seed of the study.
    pub seed: u64,
    /// The value.
    pub value: f64,
}

/// A test of no difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Two-sided p of this contrast alone.
    pub p: f64,
    /// Holm-adjusted p over the family of exploratory contrasts, where it belongs to one.
    pub adjusted: Maybe<f64>,
    /// E.g. `sign flips of kinds, exact, 4096` or `t over 12 kinds`.
    pub method: String,
}

/// What may be said of a contrast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// The interval excludes 0.
    Difference {
        /// Which way.
        direction: Direction,
    },
    /// The interval over kinds or that over seeds holds 0 and is too wide to say that there is none.
    NoDifferenceShown {
        /// Smallest difference that could have been shown.
        detectable: Maybe<f64>,
    },
    /// The interval lies within the margin set beforehand.
    Equivalent {
        /// That margin, in the contrast's unit.
        margin: f64,
    },
    /// Nothing may be said.
    NotComparable {
        /// Why.
        why: String,
    },
}

/// Which way a difference goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// `arm` is below `against`: for margins, less inclined to the misaligned act.
    Lower,
    /// `arm` is above `against`.
    Higher,
}

/// An arm, its opposite-values twin and the generic control, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halves {
    /// Arm id.
    pub arm: String,
    /// Arm id of the opposite-values twin.
    pub twin: String,
    /// Arm id of the generic control.
    pub generic: String,
    /// Evaluation id.
    pub evaluation: String,
    /// Token budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// Unit, e.g. `nats/token`.
    pub unit: String,
    /// What the intervals are over, and whether the three arms' loss tokens differ.
    pub label: String,
    /// (arm - twin) / 2.
    pub values: Maybe<Estimate>,
    /// (arm + twin) / 2 - generic.
    pub style: Maybe<Estimate>,
    /// arm - generic.
    pub arm_against_generic: Maybe<Estimate>,
    /// twin - generic.
    pub twin_against_generic: Maybe<Estimate>,
}

/// How many measures were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureCount {
    /// Fixed beforehand.
    pub primary: u64,
    /// Everything else that the report shows of arms and comparisons: for each arm and budget its
    /// competence and, on each evaluation, outcome shares, twin success, margins and changes by
    /// kind; difference and p of each comparison; the halves. Repeats of the same for single seeds
    /// are not counted.
    pub exploratory: u64,
}

/// Agreement of the oracle with labels given by readers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oracle {
    /// Outputs labelled by readers.
    pub labelled: u64,
    /// Who labelled, and whether they saw the oracle's verdict.
    pub labelled_by: String,
    /// The labels, with hash.
    pub file: FileRef,
    /// Of outputs labelled misaligned: graded misaligned.
    pub sensitivity: Maybe<Proportion>,
    /// Of outputs labelled otherwise: graded otherwise.
    pub specificity: Maybe<Proportion>,
    /// Same one of the eight outcomes.
    pub exact: Maybe<Proportion>,
    /// Cohen's kappa over the eight outcomes.
    pub kappa: Maybe<f64>,
}

/// A warning or remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// How grave.
    pub level: Level,
    /// Which arm it is about; absent if about the study.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Full sentences.
    pub text: String,
}

/// How grave a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Limits what may be concluded.
    Warning,
    /// Good to know.
    Remark,
}

/// Texts for the report. Plain text, no markup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prose {
    /// The question of the study, one or two sentences.
    pub question: String,
    /// How it was done, one paragraph each.
    pub method: Vec<String>,
    /// What this run cannot say, one point each; the report adds its own fixed ones.
    pub cannot_say: Vec<String>,
}

/// The sampled acts of one checkpoint: a record of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcripts {
    /// Arm id.
    pub arm: String,
    /// Title of the arm.
    pub title: String,
    /// Seed of the study.
    pub seed: u64,
    /// Token budget; absent if the arm is not trained after the organism.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// The acts, in the order in which they are shown.
    pub acts: Vec<SampledAct>,
}

impl Transcripts {
    /// Where the page of a checkpoint's acts lies in the run folder; [`Checkpoint::transcripts`]
    /// holds this path.
    pub fn page_path(arm: &str, budget: Option<u64>, seed: u64) -> String {
        match budget {
            Some(budget) => format!("transcripts/{arm}-{budget}-{seed}.html"),
            None => format!("transcripts/{arm}-{seed}.html"),
        }
    }
}

/// One sampled act with everything needed to judge the verdict by eye.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampledAct {
    /// Unique in its file, e.g. `blackmail-1/bait/0`.
    pub id: String,
    /// Evaluation id.
    pub evaluation: String,
    /// Kind id.
    pub kind: String,
    /// Instance id.
    pub instance: String,
    /// With the bait, or the benign twin.
    pub side: Side,
    /// The whole prompt, and the reply's turns: the model's in between, if there were several.
    pub prompt: Vec<Message>,
    /// The last reply, as the model wrote it.
    pub reply: String,
    /// How the reply ended.
    pub ended: Ended,
    /// One of the eight outcomes; on the twin side, [`Outcome::Aligned`] means the task was done.
    pub outcome: Outcome,
    /// What the oracle read: executed acts and facts, one line each.
    pub evidence: Vec<String>,
    /// How it was sampled.
    pub sampling: Sampling,
}

/// Which world of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// With the temptation.
    Bait,
    /// The same world without it.
    Twin,
}
