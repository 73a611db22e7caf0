//! The plan: a study with everything that it names read, checked and hashed, and the list of units
//! in the order in which they are made. Nothing is written and nothing is downloaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forwhy_core::constitution::Constitution;
use forwhy_core::fingerprint::Fingerprint;
use forwhy_engine::kernels::Kernels;
use forwhy_evals::competence::{self, Competence};
use forwhy_evals::honeypot::{self, Honeypots};
use forwhy_evals::worlds;
use forwhy_forge::corpus::{self, Corpus};
use forwhy_store::atomic;

use crate::folder::KERNELS;
use crate::study::{self, Study};
use crate::unit::{Key, ORGANISM, PROMPTED, UNTOUCHED};

/// Largest text file of a study.
const MAX_TEXT: u64 = 16 << 20;

/// A checked study.
pub struct Plan {
    /// Its file.
    pub file: PathBuf,
    /// The file's text.
    pub text: String,
    /// The study.
    pub study: Study,
    /// Hash of the constitution's file.
    pub constitution_hash: String,
    /// The text of the section that goes into the prompt of the baseline.
    pub brief: String,
    /// The data of each arm, and of [`ORGANISM`].
    pub corpora: BTreeMap<String, Corpus>,
    /// The evaluation.
    pub honeypots: Honeypots,
    /// The competence checks.
    pub competence: Competence,
    /// What training data must not contain.
    pub fingerprint: Fingerprint,
    /// Everything to make and to measure, in order.
    pub units: Vec<Key>,
}

/// Limits a plan to a part of its study; the rest can be run later in the same folder.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// Budgets to run; all if empty.
    pub budgets: Vec<u64>,
}

impl Plan {
    /// Reads the study at `file` and everything that it names.
    pub fn read(file: &Path, only: &Only) -> Result<Self> {
        let bytes = atomic::read(file, MAX_TEXT)?;
        let text = String::from_utf8(bytes)
            .with_context(|| format!("{} is not UTF-8 text", file.display()))?;
        let study = study::parse(file, &text)?;
        let base = file.parent().unwrap_or(Path::new(""));
        let assets = base.join(&study.assets.folder);
        let (brief, constitution_hash) = brief(&assets, &study)?;
        let honeypots = honeypot::load()?;
        let competence = competence::load()?;
        let fingerprint = honeypot::fingerprint(&honeypots, &competence, &worlds::load()?);
        let corpora = corpora(&assets, &study)?;
        check_contamination(&corpora, &fingerprint)?;
        let units = units(&study, only)?;
        let file = file.to_path_buf();
        Ok(Plan {
            file,
            text,
            study,
            constitution_hash,
            brief,
            corpora,
            honeypots,
            competence,
            fingerprint,
            units,
        })
    }

    /// What the numbers depend on, besides the study file: names, and hashes or what they are.
    pub fn protocol(&self, model_hash: &str, kernels: Kernels) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            ("start model".to_string(), model_hash.to_string()),
            (KERNELS.into(), kernels.name().into()),
            ("constitution".into(), self.constitution_hash.clone()),
            ("honeypots".into(), hash(honeypot::FILES.iter().map(|(_, text)| *text))),
            ("competence checks".into(), hash([competence::FILE])),
            ("frame of the situations".into(), hash([forwhy_arena::situation::rules().as_str()])),
        ]);
        for (arm, corpus) in &self.corpora {
            all.insert(format!("data of {arm}"), corpus.hash.clone());
        }
        all
    }

    /// The folder of the study file: relative paths in it start there.
    pub fn base(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Kinds that some arm trains on as situations with tools: they stand in no figure called held out.
    pub fn trained_kinds(&self) -> std::collections::BTreeSet<&str> {
        let arms = self.corpora.iter().filter(|(arm, _)| *arm != ORGANISM);
        let rows = arms.flat_map(|(_, corpus)| &corpus.rows).filter(|row| row.tags.tools);
        rows.map(|row| row.tags.harm.as_str()).collect()
    }
}

/// `blake3:` and hex over length-prefixed texts.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    format!("blake3:{}", hasher.finalize().to_hex())
}

fn brief(assets: &Path, study: &Study) -> Result<(String, String)> {
    let path = assets.join(&study.assets.constitution);
    let bytes = atomic::read(&path, MAX_TEXT)?;
    let text = String::from_utf8(bytes)
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    let constitution =
        Constitution::parse(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let id = study.assets.constitution_brief.as_ref();
    let Some(section) = constitution.section(id) else {
        let ids: Vec<&str> = constitution.sections.iter().map(|s| s.id.as_str()).collect();
        bail!("{} has no section {id:?}; it has {}", path.display(), ids.join(", "));
    };
    Ok((section.body.clone(), hash([text.as_str()])))
}

fn corpora(assets: &Path, study: &Study) -> Result<BTreeMap<String, Corpus>> {
    let organism = corpus::load(assets, &study.organism.data, study.organism.acts);
    let organism = organism.context("the organism's data")?;
    let mut all = BTreeMap::from([(ORGANISM.to_string(), organism)]);
    for arm in &study.arms {
        let id = arm.id.as_ref();
        let loaded = corpus::load(assets, &arm.data, arm.acts);
        all.insert(id.clone(), loaded.with_context(|| format!("the data of arm {id}"))?);
    }
    Ok(all)
}

/// Training data with a trace of the evaluation is refused before anything runs.
fn check_contamination(corpora: &BTreeMap<String, Corpus>, print: &Fingerprint) -> Result<()> {
    for (arm, corpus) in corpora {
        for row in &corpus.rows {
            let texts = row.texts();
            let hits: Vec<_> = texts.iter().flat_map(|text| print.hits(text)).collect();
            if let Some(hit) = hits.first() {
                bail!(
                    "the data of {arm} is contaminated: row {} holds {hit:?}, which stands in the \
                     evaluation; `forwhy curate check` lists every such row",
                    row.id
                );
            }
        }
    }
    Ok(())
}

/// Budget by budget, seed by seed; each seed's organism first, the baselines once.
pub(crate) fn units(study: &Study, only: &Only) -> Result<Vec<Key>> {
    let wanted = |b: u64| only.budgets.is_empty() || only.budgets.contains(&b);
    let mut budgets: Vec<u64> = Vec::new();
    for arm in &study.arms {
        let own = arm.tokens.as_ref().unwrap_or(&study.training.tokens);
        budgets.extend(own.iter().map(|b| *b as u64));
    }
    budgets.sort_unstable();
    budgets.dedup();
    if let Some(unknown) = only.budgets.iter().find(|b| !budgets.contains(b)) {
        bail!("no arm of this study has a budget of {unknown} tokens; budgets: {budgets:?}");
    }
    let mut units: Vec<Key> = Vec::new();
    let mut push = |arm: &str, budget: Option<u64>, seed: u64| {
        let key = Key { arm: arm.into(), budget, seed };
        if !units.contains(&key) {
            units.push(key);
        }
    };
    let seeds = study.seeds.as_ref();
    for budget in budgets.into_iter().filter(|b| wanted(*b)) {
        for seed in seeds {
            push(ORGANISM, None, *seed);
            push(UNTOUCHED, None, seeds[0]);
            if study.evaluation.constitution_in_prompt {
                push(PROMPTED, None, *seed);
            }
            for arm in &study.arms {
                let own = arm.tokens.as_ref().unwrap_or(&study.training.tokens);
                let mine = arm.seeds.as_ref().unwrap_or(seeds).contains(seed);
                if mine && own.contains(&(budget as usize)) {
                    push(arm.id.as_ref(), Some(budget), *seed);
                }
            }
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_testkit::micro_study::STUDY;

    fn study(change: impl FnOnce(String) -> String) -> Study {
        let text = change(STUDY.replace("in_prompt = false", "in_prompt = true"));
        study::parse(Path::new("s.toml"), &text).unwrap()
    }

    fn names(study: &Study, budgets: &[u64]) -> Vec<String> {
        let only = Only { budgets: budgets.to_vec() };
        units(study, &only).unwrap().iter().map(Key::folder).collect()
    }

    #[test]
    fn each_seed_has_its_organism_first_and_the_untouched_model_is_measured_once() {
        let two = study(|t| t.replace("seeds = [0]", "seeds = [3, 5]"));
        let names = names(&two, &[]);
        assert_eq!(names[..3], ["organism-s3", "untouched-s3", "constitution-s3"]);
        let second = names.iter().position(|n| n == "organism-s5").unwrap();
        assert!(names[..second].iter().all(|n| n.ends_with("-s3")));
        assert!(names[second..].iter().all(|n| n.ends_with("-s5")));
        assert!(!names.contains(&"untouched-s5".to_string()));
    }

    #[test]
    fn fault_8_budgets_taken_one_by_one_are_all_units_and_none_twice_but_the_baselines() {
        let both = study(|t| t.replace("\ntokens = [600]", "\ntokens = [600, 200]"));
        let (all, small, large) = (names(&both, &[]), names(&both, &[200]), names(&both, &[600]));
        let trained = |names: &[String]| -> std::collections::BTreeSet<String> {
            names.iter().filter(|n| n.contains("00-")).cloned().collect()
        };
        assert!(trained(&small).is_disjoint(&trained(&large)));
        let joined: std::collections::BTreeSet<_> = small.iter().chain(&large).collect();
        assert_eq!(joined, all.iter().collect());
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn an_unknown_budget_is_refused_with_the_known_ones() {
        let only = Only { budgets: vec![7] };
        let error = units(&study(|t| t), &only).unwrap_err().to_string();
        assert_eq!(error, "no arm of this study has a budget of 7 tokens; budgets: [600]");
    }

    #[test]
    fn an_arm_with_its_own_seeds_and_budgets_keeps_to_them() {
        let study = study(|t| {
            t.replace("seeds = [0]", "seeds = [0, 1]")
                .replace("id = \"generic\"\n", "id = \"generic\"\nseeds = [1]\ntokens = [500]\n")
        });
        let own: Vec<String> =
            names(&study, &[]).into_iter().filter(|n| n.starts_with("generic")).collect();
        assert_eq!(own, ["generic-500-s1"]);
    }

    #[test]
    fn hashes_tell_texts_apart_that_are_split_elsewhere() {
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
        assert_eq!(hash(["ab"]), hash(["ab"]));
    }
}
