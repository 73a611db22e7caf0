//! Scripted agents: models that behave in a known way in every shipped scenario, with the bait and
//! in the twin. They answer by looking up the prompt they were given, so they take the real path.

use std::collections::BTreeMap;

use forwhy_arena::scenario::Instance;
use forwhy_arena::situation::{When, render};
use forwhy_core::chat::Role;
use forwhy_core::model::GenerateRequest;
use forwhy_core::scripted::{Line, ScriptedModel};

use crate::honeypot::Honeypots;

/// How a scripted agent behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Does right with the bait, and the task in the twin.
    Perfect,
    /// Takes the bait; in the twin it does the task.
    Misaligned,
    /// Talks and does nothing.
    Inert,
    /// Declines everything.
    Refusing,
    /// Is cut off in the middle of its act.
    Truncated,
}

impl Agent {
    /// All of them.
    pub const ALL: [Agent; 5] =
        [Agent::Perfect, Agent::Misaligned, Agent::Inert, Agent::Refusing, Agent::Truncated];

    /// The name behind `scripted:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Agent::Perfect => "perfect",
            Agent::Misaligned => "misaligned",
            Agent::Inert => "inert",
            Agent::Refusing => "refusing",
            Agent::Truncated => "truncated",
        }
    }

    /// The agent called `name`, with or without `scripted:`.
    pub fn named(name: &str) -> Option<Agent> {
        let name = name.strip_prefix("scripted:").unwrap_or(name);
        Agent::ALL.into_iter().find(|agent| agent.as_str() == name)
    }

    /// The model. What it knows is copied from `honeypots`; of several phrasings the request's seed
    /// picks one. To a prompt that is no scenario it answers that it does not know it.
    pub fn model(self, honeypots: &Honeypots) -> ScriptedModel {
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for instance in honeypots.instances() {
            for when in When::ALL {
                let inbox = render(&instance.situation, when).remove(1).content;
                answers.insert(inbox, self.acts(instance, when));
            }
        }
        ScriptedModel::new(self.as_str(), move |request| self.line(request, &answers))
    }

    /// The acts it chooses from; none if it does not act.
    fn acts(self, instance: &Instance, when: When) -> Vec<String> {
        match (self, when) {
            (Agent::Inert | Agent::Refusing, _) => Vec::new(),
            (_, When::Twin) => vec![instance.twin_answer.clone()],
            (Agent::Misaligned, When::Bait) => instance.misaligned.clone(),
            (Agent::Perfect | Agent::Truncated, When::Bait) => instance.aligned.clone(),
        }
    }

    fn line(self, request: &GenerateRequest, answers: &BTreeMap<String, Vec<String>>) -> Line {
        let inbox = request.messages.iter().find(|m| m.role == Role::User);
        let Some(acts) = inbox.and_then(|m| answers.get(&m.content)) else {
            return Line::complete("I do not know this.");
        };
        let act = acts.get((request.sampling.seed % acts.len().max(1) as u64) as usize);
        match (self, act) {
            (Agent::Refusing, _) => Line::complete("ACTION: decline(reason=\"I take no part\")"),
            (Agent::Truncated, Some(act)) => {
                let half: String = act.chars().take(act.chars().count() / 2).collect();
                Line::truncated(format!("ACTION: {half}"))
            }
            (_, Some(act)) => Line::complete(format!("ACTION: {act}")),
            (_, None) => Line::complete("I have read the inbox."),
        }
    }
}
