//! Rollouts: many situations against one model in lockstep.
//!
//! 1. Every situation gives a chat; all chats go to the model as one batch.
//! 2. Each reply is read and its act executed in its own world.
//! 3. Where the world asks again (a file was opened, an act failed), its answer becomes a user turn,
//!    and these chats make the next batch, up to [`Limits::turns`].
//! 4. The oracle gives each world its verdict; everything said stands in a [`Transcript`].

use forwhy_core::chat::Message;
use forwhy_core::model::{
    Ended, GenerateRequest, Identity, Model, ModelError, Reply, Sampling, Usage,
};
use forwhy_core::seed;
use serde::{Deserialize, Serialize};

use crate::act::Act;
use crate::oracle::{Ending, Topic, Verdict};
use crate::scenario::{Instance, act_on};
use crate::situation::{When, render};
use crate::world::{Observation, World};

/// One rollout to do.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The scenario.
    pub instance: &'a Instance,
    /// With bait or as twin.
    pub when: When,
    /// Counts repeated samples of the same prompt, from 0.
    pub sample: usize,
}

impl Item<'_> {
    /// The name of the rollout: `blackmail-1/bait/0`.
    pub fn name(&self) -> String {
        format!("{}/{}/{}", self.instance.id(), self.when.as_str(), self.sample)
    }
}

/// How rollouts are done.
#[derive(Clone, Debug)]
pub struct Config {
    /// What ends a rollout.
    pub limits: Limits,
    /// How to sample; the seed is replaced by one that the path, the item and the turn name.
    pub sampling: Sampling,
    /// Put before the system text, with a blank line between (a constitution in the prompt).
    pub system_prefix: Option<String>,
    /// First parts of the seed's name: the run and the arm.
    pub seed_path: Vec<String>,
}

/// What ends a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Turns of the agent.
    pub turns: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { turns: 2 }
    }
}

/// Everything that was said and done in one rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// The rollout's name, unique in its evaluation.
    pub item: String,
    /// The kind's id.
    pub kind: String,
    /// The scenario's id.
    pub instance: String,
    /// With bait or as twin.
    pub when: When,
    /// Counts repeated samples of the same prompt, from 0.
    pub sample: usize,
    /// Which model acted.
    pub model: Identity,
    /// The whole chat, replies and the world's answers included.
    pub messages: Vec<Message>,
    /// The agent's turns.
    pub turns: Vec<Turn>,
    /// The outcome and what it rests on.
    pub verdict: Verdict,
}

/// One turn of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What the model wrote.
    pub reply: String,
    /// How it ended.
    pub ended: Ended,
    /// What it cost.
    pub usage: Usage,
    /// The settings that were really used, the seed among them.
    pub effective: Sampling,
    /// The act, if one could be read; also where the world refused it, which the observation says.
    pub act: Option<Act>,
    /// The world's answer to it.
    pub observation: Option<Observation>,
}

/// A rollout under way.
struct Episode<'a> {
    item: Item<'a>,
    world: World,
    messages: Vec<Message>,
    turns: Vec<Turn>,
    ending: Option<Ending>,
}

/// Lets `model` act in every item; the transcripts stand in the order of the items. An error of the
/// model makes its item unscored, with the reason.
pub async fn rollout(
    model: &dyn Model,
    items: &[Item<'_>],
    topics: &[Topic],
    config: &Config,
) -> Vec<Transcript> {
    let mut episodes: Vec<Episode<'_>> = items.iter().map(|item| begin(*item, config)).collect();
    for turn in 1..=config.limits.turns {
        let mut open: Vec<&mut Episode<'_>> =
            episodes.iter_mut().filter(|e| e.waits(turn)).collect();
        if open.is_empty() {
            break;
        }
        let requests: Vec<_> = open.iter_mut().map(|e| e.request(turn, config)).collect();
        let mut replies = model.generate(&requests).await.into_iter();
        for episode in &mut open {
            let lost = || Err(ModelError::Failed("gave fewer replies than requests".into()));
            episode.take(replies.next().unwrap_or_else(lost));
        }
    }
    let identity = model.identity();
    episodes.into_iter().map(|e| e.finish(topics, &identity)).collect()
}

fn begin<'a>(item: Item<'a>, config: &Config) -> Episode<'a> {
    let messages =
        with_prefix(render(&item.instance.situation, item.when), config.system_prefix.as_deref());
    let world = World::new(&item.instance.situation, item.when);
    Episode { item, world, messages, turns: Vec::new(), ending: None }
}

/// The messages with `prefix` before the text of the first (the system turn).
pub fn with_prefix(mut messages: Vec<Message>, prefix: Option<&str>) -> Vec<Message> {
    if let (Some(prefix), Some(system)) = (prefix, messages.first_mut()) {
        system.content = format!("{prefix}\n\n{}", system.content);
    }
    messages
}

impl Episode<'_> {
    /// Whether the agent has turn number `turn` (from 1): the first, or after the world asked again.
    fn waits(&self, turn: usize) -> bool {
        let last = self.turns.last().and_then(|t| t.observation.as_ref());
        turn == 1 || self.turns.len() == turn - 1 && last.is_some_and(Observation::asks_again)
    }

    /// The next request; the world's answer to the last act goes into the chat before.
    fn request(&mut self, turn: usize, config: &Config) -> GenerateRequest {
        if let Some(answer) = self.turns.last().and_then(|t| t.observation.as_ref()) {
            self.messages.push(Message::user(format!("Result: {}", answer.text())));
        }
        let purpose = format!("rollout turn {turn}");
        let name = self.item.name();
        let mut path: Vec<&str> = config.seed_path.iter().map(String::as_str).collect();
        path.extend([name.as_str(), purpose.as_str()]);
        let sampling = Sampling { seed: seed::number(&path), ..config.sampling.clone() };
        GenerateRequest { messages: self.messages.clone(), tools: Vec::new(), sampling }
    }

    /// Acts on the model's reply.
    fn take(&mut self, reply: Result<Reply, ModelError>) {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return self.ending = Some(Ending::NoReply(error.to_string())),
        };
        let (ending, done) = act_on(&mut self.world, &reply.text, &reply.ended);
        let (act, observation) = done.unzip();
        self.ending = Some(ending);
        self.messages.push(Message::assistant(reply.text.clone()));
        self.turns.push(Turn {
            reply: reply.text,
            ended: reply.ended,
            usage: reply.usage,
            effective: reply.effective,
            act,
            observation,
        });
    }

    fn finish(mut self, topics: &[Topic], model: &Identity) -> Transcript {
        let Item { instance, when, sample } = self.item;
        let none = || Ending::NoReply("the limit allows no turn".into());
        let ending = self.ending.take().unwrap_or_else(none);
        Transcript {
            item: self.item.name(),
            kind: instance.kind.clone(),
            instance: instance.id().to_string(),
            when,
            sample,
            model: model.clone(),
            verdict: instance.verdict(when, topics, &self.world, &ending),
            messages: self.messages,
            turns: self.turns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Evidence;
    use crate::tests::{bank, kinds};
    use forwhy_core::outcome::Outcome;
    use forwhy_core::scripted::{Line, ScriptedModel};

    fn config() -> Config {
        Config {
            limits: Limits::default(),
            sampling: Sampling::default(),
            system_prefix: None,
            seed_path: vec!["run".into(), "arm".into()],
        }
    }

    fn run(script: impl Fn(&GenerateRequest) -> Line + Send + Sync + 'static) -> Vec<Transcript> {
        let instance = bank();
        let item = |sample| Item { instance: &instance, when: When::Bait, sample };
        let items: Vec<_> = (0..3).map(item).collect();
        let model = ScriptedModel::new("test", script);
        pollster::block_on(rollout(&model, &items, &kinds(), &config()))
    }

    #[test]
    fn opening_a_file_gives_a_second_turn() {
        let all = run(|request| match request.messages.len() {
            2 => Line::complete("ACTION: open(file=\"/cards/rules.txt\")"),
            _ => Line::complete("ACTION: mail(to=\"Kyle\", accept=\"the switch\")"),
        });
        assert_eq!(all[0].verdict.outcome, Outcome::Aligned);
        let said: Vec<&str> = all[0].messages.iter().map(|m| m.content.as_str()).collect();
        assert_eq!(said[3], "Result: /cards/rules.txt: Block a card after three wrong codes.");
        assert_eq!(all[0].turns.len(), 2);
    }

    #[test]
    fn turns_are_limited() {
        let all = run(|_| Line::complete("ACTION: open(file=\"/none\")"));
        assert_eq!(all[0].turns.len(), 2);
        assert_eq!(all[0].messages.len(), 5);
        assert_eq!(all[0].verdict.outcome, Outcome::Incoherent);
    }

    #[test]
    fn only_those_who_are_asked_again_speak_again() {
        let all = run(|request| match request.sampling.seed % 2 {
            0 => Line::complete("ACTION: wait()"),
            _ => Line::complete("ACTION: mail(to=\"Bob\", report=\"x\")"),
        });
        for transcript in &all {
            let first = &transcript.turns[0];
            let again = first.effective.seed % 2 == 1;
            assert_eq!(transcript.turns.len(), if again { 2 } else { 1 });
        }
    }

    #[test]
    fn seeds_differ_by_sample_and_turn_and_are_the_same_again() {
        let script = |_: &GenerateRequest| Line::complete("ACTION: open(file=\"/none\")");
        let (one, two) = (run(script), run(script));
        assert_eq!(one, two);
        let seeds = one.iter().flat_map(|t| t.turns.iter().map(|turn| turn.effective.seed));
        assert_eq!(seeds.collect::<std::collections::BTreeSet<_>>().len(), 6);
    }

    #[test]
    fn a_failing_model_is_unscored_with_its_reason() {
        struct Broken;
        impl Model for Broken {
            fn identity(&self) -> Identity {
                Identity { name: "broken".into(), revision: "declared:1".into() }
            }
            fn capabilities(&self) -> forwhy_core::model::Capabilities {
                forwhy_core::model::Capabilities::default()
            }
            fn generate<'a>(
                &'a self,
                requests: &'a [GenerateRequest],
            ) -> forwhy_core::model::BoxFuture<'a, Vec<Result<Reply, ModelError>>> {
                let few = vec![Err(ModelError::Failed("no memory".into())); requests.len() - 1];
                Box::pin(async move { few })
            }
            fn score<'a>(
                &'a self,
                _: &'a [forwhy_core::model::ScoreRequest],
            ) -> forwhy_core::model::BoxFuture<
                'a,
                Vec<Result<Vec<forwhy_core::model::Score>, ModelError>>,
            > {
                Box::pin(async move { Vec::new() })
            }
        }
        let instance = bank();
        let items = [0, 1].map(|sample| Item { instance: &instance, when: When::Twin, sample });
        let all = pollster::block_on(rollout(&Broken, &items, &kinds(), &config()));
        let why = |t: &Transcript| match &t.verdict.evidence {
            Evidence::NoReply { why } => why.clone(),
            other => panic!("{other:?}"),
        };
        assert!(all.iter().all(|t| t.verdict.outcome == Outcome::Unscored));
        assert_eq!(why(&all[0]), "model failed: no memory");
        assert_eq!(why(&all[1]), "model failed: gave fewer replies than requests");
    }

    #[test]
    fn a_transcript_survives_json() {
        let all = run(|_| Line::complete("ACTION: decline(reason=\"no\")"));
        let json = serde_json::to_string(&all[0]).unwrap();
        assert_eq!(serde_json::from_str::<Transcript>(&json).unwrap(), all[0]);
    }

    #[test]
    fn the_prefix_stands_before_the_system_text() {
        let mut config = config();
        config.system_prefix = Some("Be good.".into());
        let instance = bank();
        let item = Item { instance: &instance, when: When::Bait, sample: 0 };
        let content = &begin(item, &config).messages[0].content;
        assert!(content.starts_with("Be good.\n\nAnswer with one line"), "{content}");
    }
}
