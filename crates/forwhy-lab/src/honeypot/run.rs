//! Runs a plan in a folder: rollouts, judgements, results. Each rollout is written when it ends, each
//! grade when it is made; a second start does only what is missing.
//!
//! ```text
//! protocol.json  environment.json  started.json  lock
//! rollouts.seg   one record a rollout: transcript and finding
//! grades.seg     one record a graded rollout
//! costs.seg      what each part of the run cost
//! honeypot.json  the results
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use forwhy_arena::awareness::{self, Scanner};
use forwhy_arena::company::Office;
use forwhy_arena::episode::run_all;
use forwhy_arena::judge::scripted::Answers;
use forwhy_arena::judge::{self, Asked, Case, JudgeSpec, decide, judge_all};
use forwhy_core::honeypot::HoneypotResults;
use forwhy_core::model::Model;
use forwhy_core::outcome::{Counts, Outcome};
use forwhy_core::record::Row as DataRow;
use forwhy_core::results::Maybe;
use forwhy_core::transcript::{End, Finding, Grade, Judgement, NoVerdict, Said, Transcript};
use forwhy_evals::worlds::World;
use forwhy_evals::worlds::agents::Agent;
use forwhy_evals::worlds::opening::opening;
use forwhy_evals::worlds::oracle::{conclude, find};
use forwhy_store::log::{Log, record_at};
use forwhy_store::{atomic, segment};

use crate::environment;
use crate::folder::RunFolder;
use crate::honeypot::distance::distance;
use crate::honeypot::plan::Plan;
use crate::honeypot::results;
use crate::honeypot::rows::{GradeRecord, Record, Row};
use crate::meter::Meter;
use crate::outside::Outside;

/// Rollouts whose records are brought to the disk together.
const SYNC_EVERY: usize = 64;
/// Rollouts that are judged together.
const JUDGED_TOGETHER: usize = 256;

/// Who acts and who judges.
pub struct Cast<'a> {
    /// Who acts.
    pub model: &'a dyn Model,
    /// Who judges; without judges, what only a judge could decide is unscored.
    pub judges: Vec<JudgeSpec<'a>>,
    /// How often each judge is asked about a rollout.
    pub repeats: u32,
    /// Whether judges see every rollout, or only those that the oracle leaves open.
    pub judge_all: bool,
    /// Questions to judges in flight at once.
    pub judging_at_once: usize,
    /// What the model was trained on, if that is known.
    pub trained_on: Option<&'a [DataRow]>,
}

impl Cast<'_> {
    /// The judges in words, for the protocol.
    pub fn judges_in_words(&self) -> String {
        if self.judges.is_empty() {
            return "none".into();
        }
        let names: Vec<String> = self
            .judges
            .iter()
            .map(|judge| {
                let identity = judge.model.identity();
                let (heat, tokens) = (judge.sampling.temperature, judge.sampling.max_tokens);
                format!(
                    "{} ({}) at temperature {heat}, {tokens} tokens",
                    identity.name, identity.revision
                )
            })
            .collect();
        let scope = if self.judge_all { "all rollouts" } else { "what the oracle leaves open" };
        format!(
            "{} x {}, {scope}, prompts {}",
            names.join(" and "),
            self.repeats,
            judge::prompts_hash()
        )
    }
}

/// Runs what is missing and gives the results, which also stand in `honeypot.json`. `names` are the
/// models' names for the protocol.
pub fn run(
    plan: &Plan,
    cast: &Cast<'_>,
    root: &Path,
    outside: &Outside<'_>,
) -> Result<HoneypotResults> {
    let started = outside.clock.now();
    let mut protocol = plan.protocol(&cast.judges_in_words())?;
    let identity = cast.model.identity();
    protocol.insert("signs of awareness".into(), awareness::patterns_hash());
    if let Some(how) = computed(&identity.revision) {
        protocol.insert("products of the model".into(), how.into());
    }
    let parts = protocol.clone();
    // More samples may be added to a run: those that are there stay, and only the new ones run.
    protocol.remove("samples");
    protocol.insert("model".into(), format!("{} ({})", identity.name, identity.revision));
    let folder = RunFolder::without_study(root, &protocol, &environment::current(1))?;
    if let Some(holder) = &folder.taken_over_from {
        let line = format!("taking over from process {}, which did not end cleanly", holder.pid);
        outside.progress.say(&line);
    }
    let started = crate::run::first_start(&folder, started)?;
    let mut session = Session::open(plan, cast, folder, outside)?;
    session.roll_out()?;
    session.grade()?;
    session.say_why_lost();
    let wanted: BTreeSet<String> = plan.items().map(|item| item.id()).collect();
    session.rows.retain(|id, _| wanted.contains(id));
    let cost = session.meter.total();
    let material = results::Material {
        plan,
        protocol: parts,
        model: identity,
        judges: cast.judges.iter().map(|judge| judge.model.identity()).collect(),
        repeats: u64::from(cast.repeats),
        started,
        finished: outside.clock.now(),
        rows: &session.rows,
        grades: &session.grades,
        cost,
        distance: match cast.trained_on {
            Some(rows) => Maybe::Known(distance(rows, &plan.worlds)),
            None => Maybe::missing("nothing is known of the model's training (--trained-on)"),
        },
    };
    let results = results::results(&material)?;
    atomic::write_json(&session.folder.path("honeypot.json"), &results)?;
    Ok(results)
}

struct Session<'a> {
    plan: &'a Plan,
    cast: &'a Cast<'a>,
    outside: &'a Outside<'a>,
    folder: RunFolder,
    rollouts: Log,
    grades_log: Log,
    rows: BTreeMap<String, Row>,
    grades: BTreeMap<String, Grade>,
    meter: Meter<'a>,
}

impl<'a> Session<'a> {
    fn open(
        plan: &'a Plan,
        cast: &'a Cast<'a>,
        folder: RunFolder,
        outside: &'a Outside<'a>,
    ) -> Result<Session<'a>> {
        let mut rows = BTreeMap::new();
        let mut grades = BTreeMap::new();
        let read_row = &mut |at: u64, json: &[u8]| {
            let record: Record = serde_json::from_slice(json).map_err(|e| e.to_string())?;
            let row = Row::of(&record, at);
            // A later rollout of the same name took the place of one that was lost.
            rows.insert(row.id.clone(), row);
            Ok(())
        };
        let (rollouts, tail) = Log::open(&folder.path("rollouts.seg"), 0, read_row)?;
        refuse_damage(tail, outside)?;
        let read_grade = &mut |_: u64, json: &[u8]| {
            let GradeRecord { at, grade } =
                serde_json::from_slice(json).map_err(|e| e.to_string())?;
            let graded = |row: &Row| row.at == at && !row.is_lost();
            if rows.get(&grade.transcript).is_some_and(graded) {
                grades.insert(grade.transcript.clone(), grade);
            }
            Ok(())
        };
        let (grades_log, tail) = Log::open(&folder.path("grades.seg"), 0, read_grade)?;
        refuse_damage(tail, outside)?;
        let meter = Meter::open(&folder.path("costs.seg"), outside.clock)?;
        Ok(Session { plan, cast, outside, folder, rollouts, grades_log, rows, grades, meter })
    }

    /// Lets the model act wherever it has not.
    fn roll_out(&mut self) -> Result<()> {
        let done =
            |rows: &BTreeMap<String, Row>, id: &str| rows.get(id).is_some_and(|r| !r.is_lost());
        let missing: Vec<_> = self.plan.items().filter(|i| !done(&self.rows, &i.id())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let total = self.plan.rollouts();
        self.outside.progress.begin("rollouts", "rollouts", total as u64);
        self.outside.progress.advance((total - missing.len()) as u64, "from an earlier start");
        let mut openings = Vec::with_capacity(missing.len());
        for item in &missing {
            // Checked before anything is paid for; made again when its turn comes.
            opening(item.world, &item.cell.levels, item.sample)?;
            openings.push(*item);
        }
        let foreign = foreign_tools(&self.plan.worlds);
        let openings = openings
            .iter()
            .filter_map(|item| opening(item.world, &item.cell.levels, item.sample).ok());
        let clock = self.outside.clock;
        let elapsed = || Duration::from_secs_f64(clock.wall_secs().max(0.0));
        let mut tally = Tally::default();
        let mut failed = None;
        let (plan, outside) = (self.plan, self.outside);
        let take = |transcript: Transcript, office: Office<'_>| {
            let stop = outside.go_on().is_err();
            let lost = matches!(transcript.end, End::NoReply { .. });
            if stop && lost {
                // It was cut off by the wish to stop, not by the model.
                return false;
            }
            let kept =
                keep(plan, transcript, &office, &foreign, &mut self.rollouts, &mut self.rows);
            match kept {
                Ok(finding) => tally.add(&finding, outside),
                Err(error) => failed = Some(error),
            }
            failed.is_none() && !stop
        };
        let broken_off =
            pollster::block_on(run_all(self.cast.model, openings, &plan.settings, &elapsed, take));
        self.rollouts.syncer()?.sync()?;
        self.meter.tick()?;
        if let Some(error) = failed {
            return Err(error);
        }
        broken_off.context("what was done so far is kept; the same command goes on")?;
        self.outside.progress.end(&tally.words());
        Ok(self.outside.go_on()?)
    }

    /// Grades every rollout that has no grade: new ones, and those that were lost till now.
    fn grade(&mut self) -> Result<()> {
        let open: Vec<Row> =
            self.rows.values().filter(|row| !self.is_graded(row)).cloned().collect();
        if open.is_empty() {
            return Ok(());
        }
        let scanner = Scanner::shipped()?;
        self.outside.progress.begin("grades", "rollouts", open.len() as u64);
        for part in open.chunks(JUDGED_TOGETHER) {
            self.outside.go_on()?;
            let records: Vec<Record> =
                part.iter().map(|row| self.record(row)).collect::<Result<_>>()?;
            let judgements = self.judged(&records)?;
            let mut lines = Vec::new();
            for ((row, record), judgements) in part.iter().zip(&records).zip(judgements) {
                let grade = grade(record, judgements, &scanner);
                let record = GradeRecord { at: row.at, grade };
                segment::push_line(&mut lines, &record)?;
                self.grades.insert(row.id.clone(), record.grade);
            }
            self.grades_log.write(&lines)?;
            self.grades_log.syncer()?.sync()?;
            self.meter.tick()?;
            self.outside.progress.advance(part.len() as u64, "");
        }
        let counts: Counts = self.grades.values().map(|grade| grade.outcome).collect();
        self.outside.progress.end(&counts_in_words(&counts));
        Ok(())
    }

    /// Whether a rollout has a grade that can stay: one whose judge could not be asked is made again.
    fn is_graded(&self, row: &Row) -> bool {
        let failed = |judgement: &Judgement| {
            matches!(judgement.said, Said::Unscored { reason: NoVerdict::Failed, .. })
        };
        self.grades.get(&row.id).is_some_and(|grade| !grade.judgements.iter().any(failed))
    }

    /// The judgements of each record; none where no judge is asked.
    fn judged(&self, records: &[Record]) -> Result<Vec<Vec<forwhy_core::transcript::Judgement>>> {
        let mut all = vec![Vec::new(); records.len()];
        if self.cast.judges.is_empty() {
            return Ok(all);
        }
        let mut places = Vec::new();
        let mut questions = Vec::new();
        for (i, record) in records.iter().enumerate() {
            let needed = matches!(record.finding, Finding::NeedsJudge { .. });
            // A lost rollout is run again by the next start, and judged then.
            let lost = matches!(record.transcript.end, End::NoReply { .. });
            if !lost && (needed || self.cast.judge_all) {
                places.push(i);
                questions.push(question(&record.finding));
            }
        }
        let mut asked = Vec::new();
        for (i, (questions, acts)) in places.iter().zip(&questions) {
            let record = &records[*i];
            let world = self.world(&record.transcript.world)?;
            let case = Case { right: &world.right, wrong: &world.wrong, questions, acts };
            asked.push(Asked { case, transcript: &record.transcript });
        }
        let run = self.plan.settings.seed_path.join("/");
        let config = judge::Config {
            run: &run,
            repeats: self.cast.repeats,
            concurrency: self.cast.judging_at_once,
        };
        let judged = pollster::block_on(judge_all(&self.cast.judges, &asked, &config))?;
        for (i, judgements) in places.into_iter().zip(judged) {
            all[i] = judgements;
        }
        Ok(all)
    }

    /// Tells why rollouts have no reply, by the first of them.
    fn say_why_lost(&self) {
        let why = |row: &Row| match &row.end {
            End::NoReply { why } => Some(why.clone()),
            _ => None,
        };
        let mut lost = self.rows.values().filter_map(why);
        if let Some(first) = lost.next() {
            let line = format!("{} rollouts without a reply; the first: {first}", lost.count() + 1);
            self.outside.progress.say(&line);
        }
    }

    fn record(&self, row: &Row) -> Result<Record> {
        record(&self.folder.path("rollouts.seg"), row.at)
    }

    fn world(&self, id: &str) -> Result<&'a World> {
        self.plan.world(id).with_context(|| format!("there is no world `{id}` any more"))
    }
}

/// The record of a rollout that begins at byte `at`.
fn record(path: &Path, at: u64) -> Result<Record> {
    let json = record_at(path, at)?;
    serde_json::from_slice(&json).with_context(|| format!("{}: byte {at}", path.display()))
}

/// Every record of a finished or unfinished run, in the order of their ids, each once.
pub fn records(root: &Path) -> Result<Vec<Record>> {
    let path = root.join("rollouts.seg");
    let mut all: BTreeMap<String, Record> = BTreeMap::new();
    let tail = segment::visit(&path, 0, &mut |_, json| {
        let record: Record = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        all.insert(record.transcript.id.clone(), record);
        Ok(())
    })?;
    if let Some(damage) = tail.damaged.into_iter().next() {
        return Err(damage.into());
    }
    if all.is_empty() {
        bail!("{} holds no rollouts", root.display());
    }
    Ok(all.into_values().collect())
}

/// Gives `each` the records of a run one by one, as they were written, so that a run of any size needs
/// the memory of one. A rollout that was run again comes again: the last one counts.
pub fn visit(root: &Path, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let mut failed = None;
    let tail = segment::visit(&root.join("rollouts.seg"), 0, &mut |_, json| {
        let record: Record = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if failed.is_none() {
            failed = each(record).err();
        }
        Ok(())
    })?;
    match (failed, tail.damaged.into_iter().next()) {
        (Some(error), _) => Err(error),
        (None, Some(damage)) => Err(damage.into()),
        (None, None) => Ok(()),
    }
}

/// Every grade of a run, by transcript. Of a rollout that was run again only the grade of the later
/// record counts.
pub fn grades(root: &Path) -> Result<BTreeMap<String, Grade>> {
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    let place = &mut |at: u64, json: &[u8]| {
        let record: Record = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        latest.insert(record.transcript.id, at);
        Ok(())
    };
    let rollouts = segment::visit(&root.join("rollouts.seg"), 0, place)?;
    let read = segment::read::<GradeRecord>(&root.join("grades.seg"))?;
    if let Some(damage) = rollouts.damaged.into_iter().chain(read.damaged).next() {
        return Err(damage.into());
    }
    let current =
        read.records.into_iter().filter(|r| latest.get(&r.grade.transcript) == Some(&r.at));
    Ok(current.map(|r| (r.grade.transcript.clone(), r.grade)).collect())
}

/// The table of a scripted agent: it works in every world and cell of `plan` once, and what it said
/// there deserves what its script deserves.
pub fn table(plan: &Plan, agent: Agent) -> Result<Answers> {
    let model = agent.model(plan.openings())?;
    let mut answers = Answers::default();
    let mut openings = Vec::new();
    for (world, cell) in plan.openings() {
        openings.push(opening(world, &cell, 0)?);
    }
    let take = |transcript: Transcript, _: Office<'_>| {
        answers.add(&transcript, agent.deserves(&transcript.cell));
        true
    };
    let elapsed = || Duration::ZERO;
    pollster::block_on(run_all(&model, openings.into_iter(), &plan.settings, &elapsed, take))?;
    Ok(answers)
}

fn refuse_damage(tail: segment::Tail, outside: &Outside<'_>) -> Result<()> {
    if let Some(torn) = tail.torn {
        outside.progress.say(&format!("a torn record was dropped: {torn}"));
    }
    match tail.damaged.into_iter().next() {
        Some(damage) => Err(damage).context("results would be made of a part of the rollouts"),
        None => Ok(()),
    }
}

fn keep(
    plan: &Plan,
    transcript: Transcript,
    office: &Office<'_>,
    foreign: &BTreeMap<String, BTreeSet<String>>,
    log: &mut Log,
    rows: &mut BTreeMap<String, Row>,
) -> Result<Finding> {
    let world = plan.world(&transcript.world).context("a rollout of an unknown world")?;
    let none = BTreeSet::new();
    let finding = find(world, &transcript, office, foreign.get(world.id()).unwrap_or(&none));
    let record = Record { transcript, finding: finding.clone() };
    let mut line = Vec::new();
    segment::push_line(&mut line, &record)?;
    let at = log.write(&line)?;
    let row = Row::of(&record, at);
    rows.insert(row.id.clone(), row);
    if rows.len().is_multiple_of(SYNC_EVERY) {
        log.syncer()?.sync()?;
    }
    Ok(finding)
}

/// For each world the tools that only other worlds have.
fn foreign_tools(worlds: &[World]) -> BTreeMap<String, BTreeSet<String>> {
    let all: BTreeSet<String> =
        worlds.iter().flat_map(|world| world.own_tools().map(str::to_string)).collect();
    let of = |world: &World| {
        let own: BTreeSet<&str> = world.own_tools().collect();
        let foreign = all.iter().filter(|tool| !own.contains(tool.as_str())).cloned();
        (world.id().to_string(), foreign.collect())
    };
    worlds.iter().map(of).collect()
}

/// The oracle's questions and the acts that they are about.
fn question(finding: &Finding) -> (Vec<String>, Vec<usize>) {
    match finding {
        Finding::Decided { .. } => (Vec::new(), Vec::new()),
        Finding::NeedsJudge { because } => (
            because.iter().map(|e| e.what.clone()).collect(),
            because.iter().filter_map(|e| e.act).collect(),
        ),
    }
}

fn grade(
    record: &Record,
    judgements: Vec<forwhy_core::transcript::Judgement>,
    scanner: &Scanner,
) -> Grade {
    let judged = decide(&judgements);
    let (outcome, decided_by) = conclude(&record.finding, &record.transcript.end, judged);
    let unscored = (outcome == Outcome::Unscored).then(|| why_unscored(record, &judgements));
    Grade {
        transcript: record.transcript.id.clone(),
        oracle: record.finding.clone(),
        awareness: scanner.scan(&record.transcript),
        judgements,
        outcome,
        decided_by,
        unscored,
    }
}

fn why_unscored(record: &Record, judgements: &[forwhy_core::transcript::Judgement]) -> String {
    if let End::NoReply { why } = &record.transcript.end {
        return format!("no reply: {why}");
    }
    match judgements.is_empty() {
        true => "only a judge can decide it, and none was asked".into(),
        false => "the judgements have no majority".into(),
    }
}

/// What is known while rollouts end.
#[derive(Default)]
struct Tally {
    decided: Counts,
    open: u64,
}

impl Tally {
    fn add(&mut self, finding: &Finding, outside: &Outside<'_>) {
        match finding {
            Finding::Decided { outcome, .. } => self.decided.add(*outcome),
            Finding::NeedsJudge { .. } => self.open += 1,
        }
        outside.progress.advance(1, &self.words());
    }

    fn words(&self) -> String {
        format!("{}, for a judge {}", counts_in_words(&self.decided), self.open)
    }
}

/// Outcomes that occurred, with their counts.
fn counts_in_words(counts: &Counts) -> String {
    let some = Outcome::ALL.into_iter().filter(|outcome| counts.get(*outcome) > 0);
    let words: Vec<String> = some.map(|o| format!("{o} {}", counts.get(o))).collect();
    if words.is_empty() { "none decided".into() } else { words.join(", ") }
}

/// What the revision of a model that `forwhy serve` offers says of its products, if they are not f32's
/// (see `forwhy_engine::local`).
fn computed(revision: &str) -> Option<&str> {
    let marks = ["+q8", "+w16", "+bf16-"];
    marks.iter().filter_map(|mark| revision.find(mark)).min().map(|at| &revision[at..])
}

#[cfg(test)]
mod tests {
    use super::computed;

    #[test]
    fn a_revision_says_how_its_products_are_computed_or_nothing() {
        assert_eq!(computed("blake3:00+q8+bf16-amx"), Some("+q8+bf16-amx"));
        assert_eq!(computed("weights:00+bf16-avx512"), Some("+bf16-avx512"));
        assert_eq!(computed("declared:r1+2"), None);
        assert_eq!(computed("blake3:00"), None);
    }
}
