//! Scoring many continuations of many prompts: each prompt is computed once, several prompts share a
//! pass, and what all prompts of a pass begin with is computed once for them.

use crate::error::EngineError;
use crate::llama::Llama;
use crate::pack::{Pack, shared_start};

/// Rows of one pass, unless one prompt with its continuations has more.
const PACK_ROWS: usize = 1536;

/// A prompt and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Continuations: token ids, and how many of the first are given and not scored.
    pub ends: Vec<(Vec<u32>, usize)>,
}

impl Branches {
    /// Adds the prompt from its `shared`-th id on, as a continuation of `start`, and its ends.
    fn push_to(&self, pack: &mut Pack, start: Option<usize>, shared: usize) {
        let prompt = pack.push_segment(self.prompt[shared..].to_vec(), start);
        for (ids, given) in &self.ends {
            pack.push_continuation(prompt, ids, *given);
        }
    }

    fn rows(&self) -> usize {
        self.prompt.len() + self.ends.iter().map(|(ids, _)| ids.len()).sum::<usize>()
    }

    /// Checks it alone, so that one that cannot be scored does not spoil the others.
    pub(crate) fn check(&self, model: &Llama) -> Result<(), EngineError> {
        let mut pack = Pack::new();
        self.push_to(&mut pack, None, 0);
        pack.resolve(model.shape()).map(|_| ())
    }
}

impl Llama {
    /// For each prompt and each of its continuations the log-probabilities of the scored ids.
    pub fn score(&mut self, all: &[Branches]) -> Result<Vec<Vec<Vec<f32>>>, EngineError> {
        let mut result = Vec::with_capacity(all.len());
        let mut rest = all;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest));
            rest = later;
            let shared = common_start(now);
            let mut pack = Pack::new();
            let start =
                (shared > 0).then(|| pack.push_segment(now[0].prompt[..shared].to_vec(), None));
            now.iter().for_each(|b| b.push_to(&mut pack, start, shared));
            let mut flat = self.logprobs(&[pack])?.concat().into_iter();
            result.extend(now.iter().map(|b| {
                let scored = b.ends.iter().map(|(ids, given)| ids.len().saturating_sub(*given));
                scored.map(|n| flat.by_ref().take(n).collect()).collect()
            }));
        }
        Ok(result)
    }
}

/// Ids that all prompts begin with; 0 if they are too few to be worth a segment.
fn common_start(all: &[Branches]) -> usize {
    shared_start(&all.iter().map(|b| b.prompt.as_slice()).collect::<Vec<_>>())
}

/// How many of the first prompts fit into one pass; at least one.
fn fitting(all: &[Branches]) -> usize {
    let fits = |n: &usize| {
        let shared = common_start(&all[..*n]);
        shared + all[..*n].iter().map(|b| b.rows() - shared).sum::<usize>() <= PACK_ROWS
    };
    (2..=all.len()).take_while(fits).last().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tiny_shape;

    #[test]
    fn scores_come_back_in_order_and_do_not_depend_on_their_neighbours() {
        let mut model = Llama::random(tiny_shape(), 7, 1).unwrap();
        model.weights.iter_mut().for_each(|w| *w *= 3.0);
        let branches = |n: u32| Branches {
            prompt: (0..200 + n)
                .map(|i| if i < 90 { i * 7 % 160 } else { (i + n) % 160 })
                .collect(),
            ends: vec![(vec![n, 2, 3], 1), (vec![9], 0), ((0..40).collect(), 0)],
        };
        let all: Vec<Branches> = (0..9).map(branches).collect();
        assert!(common_start(&all) == 90 && fitting(&all) > 2);
        let together = model.score(&all).unwrap();
        for (one, scores) in all.iter().zip(&together) {
            assert_eq!(scores.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 40]);
            let alone = model.score(std::slice::from_ref(one)).unwrap().remove(0);
            let pairs = alone.concat().into_iter().zip(scores.concat());
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}
