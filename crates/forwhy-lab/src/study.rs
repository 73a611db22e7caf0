//! The study file: what is compared, fixed before anything runs.
//!
//! [`parse`] turns the text into a [`Study`] or says where it is wrong: file, line, column, what was
//! expected and the nearest valid name. Nothing is created or downloaded before this has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use forwhy_engine::llama::Scope;
use forwhy_forge::corpus::Acts;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// A study as its file states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Names the run folder.
    pub name: Spanned<String>,
    /// One line for people.
    pub title: String,
    /// Each seed redraws organism, data order and sampling.
    pub seeds: Spanned<Vec<u64>>,
    /// Compute threads; all cores if absent.
    pub threads: Option<usize>,
    /// The start model.
    pub model: ModelSource,
    /// Where data and constitution lie.
    pub assets: Assets,
    /// How every arm is trained, unless it says otherwise.
    pub training: Training,
    /// How the organism gets its prior.
    pub organism: Organism,
    /// What is measured on every checkpoint.
    pub evaluation: Evaluation,
    /// What is concluded, fixed beforehand.
    pub analysis: Analysis,
    /// The ways of teaching that are compared.
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
}

/// The start model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    /// `smollm2-135m-instruct`, or a path to a GGUF file or a folder in Hugging Face layout,
    /// relative to the study file.
    pub source: String,
}

/// Where data and constitution lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assets {
    /// Relative to the study file.
    pub folder: PathBuf,
    /// The constitution, relative to `folder`.
    pub constitution: PathBuf,
    /// Id of the section that goes into the prompt of the untrained baseline.
    pub constitution_brief: Spanned<String>,
}

/// How arms are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Which parameters.
    pub scope: Scope,
    /// Tokens a step, about: whole groups of rows are added until this is reached.
    pub batch_tokens: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Share of the steps with rising learning rate.
    pub warmup_share: f64,
    /// Share of the peak at the end of the cosine.
    pub final_share: f64,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// The gradient's norm is clipped to this.
    pub clip_norm: f32,
    /// Budgets: total tokens an arm; every arm is trained once with each.
    pub tokens: Vec<usize>,
    /// Keep every arm's checkpoint; otherwise it is deleted once the arm is measured.
    pub keep_checkpoints: bool,
}

/// How the organism gets its prior.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organism {
    /// Files or folders, relative to the assets.
    pub data: Vec<PathBuf>,
    /// Which acts of written situations become rows.
    pub acts: Acts,
    /// Total tokens.
    pub tokens: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
}

/// What is measured on every checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Situations of each kind in which acts are sampled (the first ones; margins use all).
    pub sampled_situations: usize,
    /// Acts sampled a situation with the bait.
    pub samples: usize,
    /// Acts sampled a benign twin.
    pub twin_samples: usize,
    /// Of the sampled acts.
    pub temperature: f32,
    /// A longer act is truncated.
    pub max_tokens: usize,
    /// Turns a rollout may take.
    pub turns: usize,
    /// Measure the organism with the constitution's brief in its prompt, without training.
    pub constitution_in_prompt: bool,
}

/// What is concluded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analysis {
    /// Two arms: the primary contrast is the first minus the second.
    pub primary: Spanned<[String; 2]>,
    /// The budget at which the primary contrast is made; others are exploratory.
    pub budget: Spanned<usize>,
    /// Nats a token. An interval inside this margin is called "no effect".
    pub equivalence_margin: f64,
    /// Of the intervals, e.g. 0.95.
    pub confidence: f64,
}

/// What an arm is for, beyond being one of the treatments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArmRole {
    /// One of the ways of teaching.
    #[default]
    Treatment,
    /// The equal-token control.
    Generic,
    /// The opposite-values twin of another arm.
    Opposite,
}

/// One way of teaching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Names it in folders and tables.
    pub id: Spanned<String>,
    /// For people.
    pub title: String,
    /// Files or folders, relative to the assets.
    pub data: Vec<PathBuf>,
    /// Which acts of written situations become rows.
    #[serde(default)]
    pub acts: Acts,
    /// What it is for.
    #[serde(default)]
    pub role: ArmRole,
    /// Its style-matched opposite-values twin.
    pub opposite: Option<Spanned<String>>,
    /// Sees its rows in the order of this arm; for two arms that differ in a setting alone. An
    /// opposite-values twin does so anyway.
    pub order: Option<Spanned<String>>,
    /// Instead of the study's.
    pub learning_rate: Option<f64>,
    /// Instead of the study's.
    pub tokens: Option<Vec<usize>>,
    /// Instead of the study's.
    pub seeds: Option<Vec<u64>>,
}

/// A study file that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}", file = file.display())]
pub struct StudyError {
    /// The study file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, what was expected, and the nearest valid name.
    pub what: String,
}

/// Reads the text of a study file.
pub fn parse(file: &Path, text: &str) -> Result<Study, StudyError> {
    let fail = |span: Option<Range<usize>>, what: String| {
        let start = span.map(|s| s.start).or_else(|| place_of_key(text, &what));
        let (line, column) = position(text, start.unwrap_or(0));
        StudyError { file: file.into(), line, column, what }
    };
    let study: Study = toml::from_str(text)
        .map_err(|e| fail(e.span(), with_nearest(e.message(), text, e.span())))?;
    check(&study).map_err(|(span, what)| fail(span, what))?;
    Ok(study)
}

/// Where the setting stands that a complaint names first, e.g. `evaluation.samples must ...`.
fn place_of_key(text: &str, what: &str) -> Option<usize> {
    let name = what.split([' ', ':']).next()?;
    let (section, key) = name.rsplit_once('.').unwrap_or(("", name));
    let (mut at, mut inside) = (0, section.is_empty());
    for line in text.split_inclusive('\n') {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.split(']').next() == Some(section);
        } else if inside && line.split('=').next().map(str::trim) == Some(key) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// Adds "did you mean" to serde's message about an unknown name.
fn with_nearest(message: &str, text: &str, span: Option<Range<usize>>) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown ");
    match quoted.split_first() {
        Some((wrong, valid)) if unknown => match nearest(wrong, valid.iter().copied()) {
            Some(best) => format!("{message}; did you mean `{best}`?"),
            None => message.to_string(),
        },
        _ if message.starts_with("missing field") => message.to_string(),
        _ => {
            let found = span.and_then(|s| text.get(s)).unwrap_or_default();
            let first = found.lines().next().unwrap_or_default();
            if first.is_empty() { message.into() } else { format!("{message}, found `{first}`") }
        }
    }
}

/// The valid name closest to `wrong`, if one is close.
fn nearest<'a>(wrong: &str, valid: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = valid.map(|name| (strsim::jaro_winkler(wrong, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > 0.7).map(|(_, name)| name)
}

type Complaint = (Option<Range<usize>>, String);

fn complain<T>(condition: bool, span: Option<Range<usize>>, what: T) -> Result<(), Complaint>
where
    T: Into<String>,
{
    if condition { Ok(()) } else { Err((span, what.into())) }
}

fn check(study: &Study) -> Result<(), Complaint> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let usable = |name: &str| !name.is_empty() && name.chars().all(plain);
    let rule = "names are made of a-z, 0-9 and '-', because they name folders";
    complain(usable(study.name.as_ref()), Some(study.name.span()), rule)?;
    let seeds = study.seeds.as_ref();
    let distinct: BTreeSet<_> = seeds.iter().collect();
    let span = Some(study.seeds.span());
    complain(!seeds.is_empty(), span.clone(), "at least one seed is needed")?;
    complain(distinct.len() == seeds.len(), span, "a seed stands twice: it would be the same run")?;
    complain(!study.arms.is_empty(), None, "the study has no [[arm]]")?;
    check_budgets(&study.training.tokens, "training.tokens", None)?;
    let (budget, budgets) = (&study.analysis.budget, &study.training.tokens);
    let what = format!("no arm has {} tokens; training.tokens: {budgets:?}", budget.as_ref());
    complain(budgets.contains(budget.as_ref()), Some(budget.span()), what)?;
    for arm in &study.arms {
        complain(usable(arm.id.as_ref()), Some(arm.id.span()), rule)?;
        check_arm(arm, study)?;
    }
    check_names(study)?;
    check_numbers(study)
}

fn check_budgets(
    tokens: &[usize],
    name: &str,
    span: Option<Range<usize>>,
) -> Result<(), Complaint> {
    let some = !tokens.is_empty() && !tokens.contains(&0);
    complain(some, span.clone(), format!("{name} needs at least one budget above 0"))?;
    let distinct: BTreeSet<_> = tokens.iter().collect();
    let what = format!("{name}: a budget stands twice: it would be the same run");
    complain(distinct.len() == tokens.len(), span, what)
}

/// An arm's data, budgets and seeds; the primary arms must be there at the primary budget
/// with all seeds, or there would be no headline.
fn check_arm(arm: &Arm, study: &Study) -> Result<(), Complaint> {
    let (id, span) = (arm.id.as_ref(), Some(arm.id.span()));
    complain(!arm.data.is_empty(), span.clone(), format!("arm `{id}` names no data"))?;
    let all = study.seeds.as_ref();
    let seeds = arm.seeds.as_ref().unwrap_or(all);
    let budgets = arm.tokens.as_ref().unwrap_or(&study.training.tokens);
    if arm.tokens.is_some() {
        check_budgets(budgets, "tokens", span.clone())?;
    }
    let what = format!("arm `{id}` has no seed");
    complain(!seeds.is_empty(), span.clone(), what)?;
    if let Some(seed) = seeds.iter().find(|s| !all.contains(s)) {
        let what = format!("arm `{id}` has seed {seed}, which is not among the study's {all:?}");
        return Err((span, what));
    }
    if !study.analysis.primary.as_ref().contains(id) {
        return Ok(());
    }
    let budget = study.analysis.budget.as_ref();
    let what = format!(
        "arm `{id}` is part of the primary contrast and needs its budget, {budget} tokens \
         (`budget` of [analysis])"
    );
    complain(budgets.contains(budget), span.clone(), what)?;
    let what = format!("arm `{id}` is part of the primary contrast and needs all seeds, {all:?}");
    complain(all.iter().all(|s| seeds.contains(s)), span, what)
}

fn check_names(study: &Study) -> Result<(), Complaint> {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for arm in &study.arms {
        *ids.entry(arm.id.as_ref()).or_default() += 1;
        let reserved =
            ["untouched", "organism", "constitution"].contains(&arm.id.as_ref().as_str());
        let twice = ids[arm.id.as_ref().as_str()] > 1;
        let what = format!("`{}` names another part of the study already", arm.id.as_ref());
        complain(!reserved && !twice, Some(arm.id.span()), what)?;
    }
    let known = |name: &str, span: Range<usize>| {
        let hint = nearest(name, ids.keys().copied());
        let hint = hint.map(|h| format!("; did you mean `{h}`?")).unwrap_or_default();
        let arms: Vec<&str> = ids.keys().copied().collect();
        let what = format!("no arm is called `{name}` (arms: {}){hint}", arms.join(", "));
        complain(ids.contains_key(name), Some(span), what)
    };
    for arm in study.arms.iter().flat_map(|a| a.opposite.iter().chain(&a.order)) {
        known(arm.as_ref(), arm.span())?;
    }
    let span = study.analysis.primary.span();
    let [first, second] = study.analysis.primary.as_ref();
    let twin = study.arms.iter().find(|a| a.id.as_ref() == first).map(|a| &a.opposite);
    let controlled = twin.is_none_or(|t| t.as_ref().is_some_and(|t| t.as_ref() == second));
    let rule = format!(
        "the primary contrast is an arm minus its opposite-values twin: arm `{first}` needs \
         `opposite = \"{second}\"`, or an effect of style would pass for one of values"
    );
    complain(first != second, Some(span.clone()), "the primary contrast needs two different arms")?;
    known(first, span.clone())?;
    known(second, span.clone())?;
    complain(controlled, Some(span), rule)
}

fn check_numbers(study: &Study) -> Result<(), Complaint> {
    let t = &study.training;
    let share = |x: f64| (0.0..=1.0).contains(&x);
    let positive = |x: f64| x > 0.0 && x.is_finite();
    let e = &study.evaluation;
    let a = &study.analysis;
    let scope = match t.scope {
        Scope::All => true,
        Scope::Top(blocks) => blocks > 0,
        Scope::Lora { rank, alpha } => rank > 0 && positive(alpha.into()),
    };
    let rates = study.arms.iter().filter_map(|arm| arm.learning_rate);
    for (good, what) in [
        (scope, "training.scope: blocks, rank and alpha must be above 0"),
        (t.batch_tokens > 0, "training.batch_tokens must be above 0"),
        (share(t.warmup_share), "training.warmup_share is a share, 0 to 1"),
        (share(t.final_share), "training.final_share is a share, 0 to 1"),
        (positive(t.clip_norm.into()), "training.clip_norm must be above 0"),
        (t.weight_decay >= 0.0, "training.weight_decay must not be negative"),
        (study.organism.tokens > 0, "organism.tokens must be above 0"),
        (!study.organism.data.is_empty(), "organism.data names no data"),
        (e.sampled_situations > 0, "evaluation.sampled_situations must be above 0"),
        (e.samples > 0, "evaluation.samples must be above 0: zero samples would be an empty rate"),
        (e.twin_samples > 0, "evaluation.twin_samples must be above 0"),
        (e.max_tokens > 0, "evaluation.max_tokens must be above 0"),
        ((1..=2).contains(&e.turns), "evaluation.turns is 1 or 2"),
        (e.temperature >= 0.0, "evaluation.temperature must not be negative"),
        (a.confidence > 0.5 && a.confidence < 1.0, "analysis.confidence lies between 0.5 and 1"),
        (positive(a.equivalence_margin), "analysis.equivalence_margin must be above 0"),
        (study.threads != Some(0), "threads must be above 0"),
    ] {
        complain(good, None, what)?;
    }
    for rate in rates.chain([t.learning_rate, study.organism.learning_rate]) {
        complain(positive(rate) && rate < 1.0, None, "a learning rate lies between 0 and 1")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use forwhy_testkit::micro_study::STUDY;

    fn error(from: &str, to: &str) -> String {
        assert!(STUDY.contains(from), "{from}");
        parse(Path::new("s.toml"), &STUDY.replacen(from, to, 1)).unwrap_err().to_string()
    }

    fn line_of(key: &str) -> usize {
        STUDY.lines().position(|l| l.starts_with(key)).unwrap() + 1
    }

    #[test]
    fn the_shipped_studies_parse() {
        let quick = include_str!("../../../studies/quickstart.toml");
        parse(Path::new("quickstart.toml"), quick).unwrap();
        let full = include_str!("../../../studies/full.toml");
        parse(Path::new("full.toml"), full).unwrap();
    }

    #[test]
    fn an_unknown_key_gets_line_column_and_the_nearest_name() {
        let e = error("batch_tokens = 300", "batch_token = 300");
        let line = line_of("batch_tokens");
        assert!(e.starts_with(&format!("s.toml:{line}:1: unknown field `batch_token`")), "{e}");
        assert!(e.ends_with("did you mean `batch_tokens`?"), "{e}");
    }

    #[test]
    fn a_wrong_type_says_what_was_expected_and_found() {
        let e = error("batch_tokens = 300", "batch_tokens = \"many\"");
        let place = format!("s.toml:{}:16: ", line_of("batch_tokens"));
        assert!(e.starts_with(&place), "{e}");
        assert!(
            e.contains("invalid type: string \"many\", expected usize, found `\"many\"`"),
            "{e}"
        );
    }

    #[test]
    fn a_missing_arm_is_named_with_the_nearest_one() {
        let e = error("opposite = \"advice-opposite\"", "opposite = \"advise-opposite\"");
        assert!(e.contains("no arm is called `advise-opposite`"), "{e}");
        assert!(e.ends_with("did you mean `advice-opposite`?"), "{e}");
        assert!(error("\"advice\", \"advice-opp", "\"advice\", \"adv-opp").contains("no arm"));
    }

    #[test]
    fn a_headline_without_its_style_control_is_refused() {
        let e = error("opposite = \"advice-opposite\"\n", "");
        assert!(e.contains("arm `advice` needs `opposite = \"advice-opposite\"`"), "{e}");
    }

    #[test]
    fn numbers_that_would_measure_nothing_are_refused() {
        let e = error("\nsamples = 1", "\nsamples = 0");
        let place = format!("s.toml:{}:1: evaluation.samples", line_of("samples"));
        assert!(e.starts_with(&place) && e.contains("zero samples"), "{e}");
        assert!(error("seeds = [0]", "seeds = [0, 0]").contains("stands twice"));
        assert!(error("seeds = [0]", "seeds = []").contains("at least one seed"));
        assert!(error("tokens = [600]", "tokens = []").contains("at least one budget"));
        assert!(error("tokens = [600]", "tokens = [600, 600]").contains("a budget stands twice"));
        assert!(error("id = \"advice-opposite\"", "id = \"generic\"").contains("another part"));
        assert!(error("id = \"advice-opposite\"", "id = \"../up\"").contains("names are made of"));
        assert!(error("learning_rate = 1e-3", "learning_rate = -1.0").contains("learning rate"));
    }

    #[test]
    fn arms_whose_own_seeds_or_budgets_leave_the_comparison_without_a_side_are_refused() {
        let with = |id: &str, line: &str| {
            let from = format!("id = \"{id}\"\n");
            error(&from, &format!("{from}{line}\n"))
        };
        assert!(with("generic", "seeds = [7]").contains("seed 7, which is not among"));
        assert!(with("generic", "tokens = [500, 500]").contains("a budget stands twice"));
        assert!(with("advice", "tokens = [500]").contains("needs its budget, 600"));
        let text = STUDY.replacen("seeds = [0]", "seeds = [0, 1]", 1);
        let id = "id = \"advice\"\n";
        let text = text.replacen(id, &format!("{id}seeds = [1]\n"), 1);
        let e = parse(Path::new("s.toml"), &text).unwrap_err().to_string();
        assert!(e.contains("needs all seeds, [0, 1]"), "{e}");
    }
}
