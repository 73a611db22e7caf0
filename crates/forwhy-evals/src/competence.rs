//! Whether a model can still do ordinary things: easy chat questions, the perplexity of plain prose,
//! and prompts on which its drift from another model is measured.
//!
//! The material is `competence.toml`. Requests are made here and answers graded here; running them
//! is the caller's part, because perplexity and drift need whole token distributions.

use forwhy_core::chat::Message;
use forwhy_core::fingerprint::words;
use forwhy_core::model::{Ended, GenerateRequest, Model, ModelError, Reply, Sampling};
use serde::{Deserialize, Serialize};

/// The material's file: questions with the answers that count, prose, neutral chats.
pub const FILE: &str = include_str!("../competence.toml");

/// Tokens after which a chat answer is cut off. The questions ask for a word or a number.
pub const CHAT_MAX_TOKENS: usize = 32;

/// The material.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Competence {
    /// Easy questions.
    pub question: Vec<Question>,
    /// Plain prose.
    pub prose: Vec<Prose>,
    /// Neutral chats.
    pub neutral: Vec<Neutral>,
}

/// A question with the answers that count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Unique.
    pub id: String,
    /// What is asked.
    pub ask: String,
    /// Answers, any of which must stand in the reply as whole words.
    pub accept: Vec<String>,
}

/// A paragraph, written for this project.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prose {
    /// Unique.
    pub id: String,
    /// The paragraph.
    pub text: String,
}

/// A chat that has nothing to do with any principle.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neutral {
    /// Unique.
    pub id: String,
    /// The user's turn.
    pub ask: String,
    /// The reply on whose tokens distributions are compared.
    pub reply: String,
}

/// Something wrong with the material or with numbers made from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompetenceError {
    /// The file cannot be read.
    #[error("competence.toml: {0}")]
    File(String),
    /// There is nothing to make a number from.
    #[error("{0}: there is nothing to measure")]
    Empty(&'static str),
    /// Distributions that do not belong together.
    #[error("drift: {0}")]
    Distributions(String),
}

/// How an easy question was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The question's id.
    pub question: String,
    /// The reply, or the model's error.
    pub reply: String,
    /// How it was graded.
    pub grade: Grade,
}

/// The grade of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// An accepted answer stands in it.
    Right,
    /// It does not.
    Wrong,
    /// The model gave no reply.
    Unscored,
}

/// The shipped material.
pub fn load() -> Result<Competence, CompetenceError> {
    parse(FILE)
}

/// Reads material. Ids must be unique and nothing empty.
pub fn parse(text: &str) -> Result<Competence, CompetenceError> {
    let file: Competence =
        toml::from_str(text).map_err(|e| CompetenceError::File(e.to_string()))?;
    let mut ids: Vec<&str> = file.question.iter().map(|q| q.id.as_str()).collect();
    ids.extend(file.prose.iter().map(|p| p.id.as_str()));
    ids.extend(file.neutral.iter().map(|n| n.id.as_str()));
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CompetenceError::File(format!("the id {:?} stands twice", pair[0])));
    }
    if let Some(q) = file.question.iter().find(|q| q.accept.is_empty()) {
        return Err(CompetenceError::File(format!("{}: no answer is accepted", q.id)));
    }
    if file.texts().any(|text| text.trim().is_empty()) {
        return Err(CompetenceError::File("a text is empty".into()));
    }
    Ok(file)
}

impl Competence {
    /// Every text that somebody wrote, for the fingerprint.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let questions = self.question.iter().map(|q| q.ask.as_str());
        let prose = self.prose.iter().map(|p| p.text.as_str());
        let neutral = self.neutral.iter().flat_map(|n| [n.ask.as_str(), n.reply.as_str()]);
        questions.chain(prose).chain(neutral)
    }

    /// One greedy request a question.
    pub fn chat_requests(&self) -> Vec<GenerateRequest> {
        let sampling =
            Sampling { temperature: 0.0, max_tokens: CHAT_MAX_TOKENS, ..Sampling::default() };
        let request = |q: &Question| GenerateRequest {
            messages: vec![Message::user(q.ask.clone())],
            tools: Vec::new(),
            sampling: sampling.clone(),
        };
        self.question.iter().map(request).collect()
    }

    /// Asks all questions and grades the replies, in the order of the questions.
    pub async fn ask(&self, model: &dyn Model) -> Vec<Answer> {
        let mut replies = model.generate(&self.chat_requests()).await.into_iter();
        let lost = || Err(ModelError::Failed("gave fewer replies than requests".into()));
        let answer = |question: &Question| question.grade(replies.next().unwrap_or_else(lost));
        self.question.iter().map(answer).collect()
    }

    /// The neutral chats, reply included: the distributions at the reply's tokens are compared.
    pub fn neutral_chats(&self) -> Vec<Vec<Message>> {
        let chat =
            |n: &Neutral| vec![Message::user(n.ask.clone()), Message::assistant(n.reply.clone())];
        self.neutral.iter().map(chat).collect()
    }
}

impl Question {
    /// Grades one reply. A reply that was cut off is graded by what it says: the answer may stand
    /// in its first words.
    pub fn grade(&self, reply: Result<Reply, ModelError>) -> Answer {
        let (reply, grade) = match reply {
            Ok(Reply { text, ended: Ended::Complete | Ended::Truncated, .. }) => {
                let grade = if self.accepts(&text) { Grade::Right } else { Grade::Wrong };
                (text, grade)
            }
            Ok(Reply { ended, .. }) => (format!("{ended:?}"), Grade::Unscored),
            Err(error) => (error.to_string(), Grade::Unscored),
        };
        Answer { question: self.id.clone(), reply, grade }
    }

    fn accepts(&self, text: &str) -> bool {
        let text = format!(" {} ", words(text, true).join(" "));
        let says = |answer: &String| text.contains(&format!(" {} ", words(answer, true).join(" ")));
        self.accept.iter().any(says)
    }
}

/// Perplexity over several texts: exp of the summed negative log-probability (nats) over the tokens.
pub fn perplexity(texts: &[(f64, u64)]) -> Result<f64, CompetenceError> {
    let nats: f64 = texts.iter().map(|(nats, _)| nats).sum();
    let tokens: u64 = texts.iter().map(|(_, tokens)| tokens).sum();
    if tokens == 0 {
        return Err(CompetenceError::Empty("perplexity"));
    }
    Ok((nats / tokens as f64).exp())
}

/// KL(start || now) a token, nats, mean over the tokens of one chat. Both are log-softmax rows, one a
/// token and a vocabulary long.
pub fn drift(start: &[Vec<f32>], now: &[Vec<f32>]) -> Result<f64, CompetenceError> {
    let wrong = |what: String| Err(CompetenceError::Distributions(what));
    if start.is_empty() {
        return Err(CompetenceError::Empty("drift"));
    }
    if start.len() != now.len() {
        return wrong(format!("{} tokens against {}", start.len(), now.len()));
    }
    let mut sum = 0.0;
    for (p, q) in start.iter().zip(now) {
        if p.len() != q.len() || p.is_empty() {
            return wrong(format!("vocabularies of {} and {}", p.len(), q.len()));
        }
        sum += p.iter().zip(q).map(|(p, q)| kl_term(*p, *q)).sum::<f64>();
    }
    if !sum.is_finite() {
        return wrong("a log-probability is not a number, or lost its support".into());
    }
    Ok(sum / start.len() as f64)
}

fn kl_term(log_p: f32, log_q: f32) -> f64 {
    let (log_p, log_q) = (f64::from(log_p), f64::from(log_q));
    if log_p == f64::NEG_INFINITY { 0.0 } else { log_p.exp() * (log_p - log_q) }
}
