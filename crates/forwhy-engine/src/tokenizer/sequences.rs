//! A chat as training sequences: the ids that the model reads and writes at inference, each
//! assistant's turn trained exactly once.
//!
//! 1. What the template would leave out is refused by name ([`Template::unwritten`]).
//! 2. A chat whose earlier turns stay as they are is one sequence, as [`ChatTokenizer::chat`] has it.
//! 3. Templates that write earlier turns otherwise once later ones follow (Qwen3 takes out their
//!    thoughts, Mistral writes the system text with the last question only) need several. A turn is
//!    put behind its own prompt, the ids of which are those of a request; as long as the next prompt
//!    begins with that, the next turn goes into the same sequence, and otherwise into a new one.
//!
//! What a turn is: the text that the template writes behind the prompt. Where the prompt itself is
//! rewritten by its own turn (Mistral's system text), what stands behind the last message of the prompt.

use super::{ChatTokenizer, Message, Rendered, TokenizerError, ToolDefinition, Turns, unused_in};
use crate::render::RenderError;

/// Why a chat cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// It cannot be rendered, or its turns cannot be found in what is rendered.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The template leaves something out.
    #[error(
        "the chat template of the model does not write {what}, so it would be neither read nor \
         trained; take it out of the data, or train a model whose template writes it"
    )]
    Unwritten {
        /// What, with its place.
        what: String,
    },
}

impl From<RenderError> for SequenceError {
    fn from(error: RenderError) -> Self {
        SequenceError::Tokenizer(error.into())
    }
}

/// A sequence that later turns may still extend.
struct Open {
    /// What the template writes up to the end of its last turn; None if the prompt of that turn was
    /// another.
    text: Option<String>,
    /// Where its first trained turn begins.
    begin: usize,
    ids: Rendered,
}

impl ChatTokenizer {
    /// The training sequences of a chat in which `tools` may be called, in the order of its turns.
    /// Each ends with the end of a turn; one, if the template rewrites nothing.
    pub fn training_sequences(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<Vec<Rendered>, SequenceError> {
        if let Some(what) = self.template.unwritten(&Turns::new(messages, tools))? {
            return Err(SequenceError::Unwritten { what });
        }
        let mut sequences = match self.chat(messages, tools, false) {
            Ok(whole) => vec![whole],
            Err(TokenizerError::NotPrefix { .. }) => self.split(messages, tools)?,
            Err(error) => return Err(error.into()),
        };
        // What a template writes behind the last end-of-turn token is never produced nor read.
        for sequence in &mut sequences {
            let last = sequence.trained.iter().rposition(|t| *t);
            sequence.truncate(last.map_or(sequence.ids.len(), |last| last + 1));
        }
        Ok(sequences)
    }

    fn split(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<Vec<Rendered>, TokenizerError> {
        let turns = Turns::new(messages, tools);
        let mark = self.unused_char(&turns);
        let marked = turns.map_texts(&|text| self.control.mark(text, mark));
        let (mut done, mut open) = (Vec::new(), None::<Open>);
        for index in marked.assistant() {
            let prompt = self.template.render(&marked.first(index), true)?;
            let (own, whole) = self.own_text(&marked, index, &prompt)?;
            let mut ids = self.chat(&messages[..index], tools, true)?;
            let goes_on = |open: &Open| {
                open.text.as_ref().is_some_and(|text| prompt.starts_with(text.as_str()))
            };
            let begin = match open.take() {
                Some(open) if goes_on(&open) => open.begin,
                other => {
                    done.extend(other.map(|open| open.ids));
                    ids.ids.len()
                }
            };
            // Earlier turns that stand here too are trained where they were said.
            ids.trained[..begin].fill(false);
            self.push_piece(&own, mark, Some(index + 1), &mut ids)?;
            open = Some(Open { text: whole, begin, ids });
        }
        done.extend(open.map(|open| open.ids));
        Ok(done)
    }

    /// A character that neither the chat nor the template has.
    pub(super) fn unused_char(&self, turns: &Turns) -> char {
        let template = self.template.source();
        unused_in(|c| template.contains(c) || turns.contains(c))
    }

    /// What the template writes for the turn at `index` behind `prompt`; and the whole text up to its
    /// end, if that begins with the prompt.
    fn own_text(
        &self,
        marked: &Turns,
        index: usize,
        prompt: &str,
    ) -> Result<(String, Option<String>), TokenizerError> {
        let whole = self.template.render(&marked.first(index + 1), false)?;
        if let Some(own) = whole.strip_prefix(prompt) {
            return Ok((own.into(), Some(whole)));
        }
        let lost = || TokenizerError::NotPrefix { turn: index + 1 };
        // The turn rewrites its own prompt: look behind the last message of that, found by a text
        // that stands nowhere else.
        let last = index.checked_sub(1).ok_or_else(lost)?;
        let sign = self.unused_char(marked).to_string();
        let signed = marked.with_content(last, &sign);
        let asked = self.template.render(&signed.first(index), true)?;
        let answered = self.template.render(&signed.first(index + 1), false)?;
        let opening = asked.rsplit_once(&sign).ok_or_else(lost)?.1;
        let behind = answered.rsplit_once(&sign).ok_or_else(lost)?.1;
        let own = behind.strip_prefix(opening).ok_or_else(lost)?;
        // The sign must not have changed what stands behind it.
        match prompt.ends_with(opening) && whole.ends_with(behind) {
            true => Ok((own.into(), None)),
            false => Err(lost()),
        }
    }
}

#[cfg(test)]
#[path = "sequences_tests.rs"]
mod tests;
