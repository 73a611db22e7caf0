//! Scoring many continuations of many prompts: many share a pass, and what several of them begin
//! with, prompt or continuation, is computed once.

use crate::error::EngineError;
use crate::llama::Llama;
use crate::pack::Pack;
use crate::tree::{Tree, common};

/// Rows of one pass, unless one prompt with its continuations has more.
const PACK_ROWS: usize = 3072;

/// A prompt and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches {
    /// Token ids of the prompt; not empty.
    pub prompt: Vec<u32>,
    /// Continuations: token ids, and how many of the first are given and not scored.
    pub ends: Vec<(Vec<u32>, usize)>,
}

impl Branches {
    /// The prompt with each end; an end's last id needs no row.
    fn sequences(&self) -> impl Iterator<Item = Vec<u32>> {
        let sequence = |(ids, _): &(Vec<u32>, usize)| {
            [&self.prompt, &ids[..ids.len().saturating_sub(1)]].concat()
        };
        self.ends.iter().map(sequence)
    }

    /// Rows that it takes alone.
    fn rows(&self) -> usize {
        let sequences: Vec<Vec<u32>> = self.sequences().collect();
        Tree::new(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>()).pack.rows()
    }

    /// Checks it alone, so that one that cannot be scored does not spoil the others.
    pub(crate) fn check(&self, model: &Llama) -> Result<(), EngineError> {
        let mut pack = Pack::new();
        let prompt = pack.push_segment(self.prompt.clone(), None);
        self.ends.iter().for_each(|(ids, given)| pack.push_continuation(prompt, ids, *given));
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
            let mut flat = self.logprobs(&[pack(now)])?.concat().into_iter();
            result.extend(now.iter().map(|b| {
                let scored = b.ends.iter().map(|(ids, given)| ids.len().saturating_sub(*given));
                scored.map(|n| flat.by_ref().take(n).collect()).collect()
            }));
        }
        Ok(result)
    }
}

/// All prompts with their continuations, and a target for each scored id, in order.
fn pack(all: &[Branches]) -> Pack {
    let sequences: Vec<Vec<u32>> = all.iter().flat_map(Branches::sequences).collect();
    let mut tree = Tree::new(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let ends = all.iter().flat_map(|b| b.ends.iter().map(|end| (b.prompt.len(), end)));
    for (sequence, (prompt, (ids, given))) in ends.enumerate() {
        for (i, id) in ids.iter().enumerate().skip(*given) {
            tree.push_target(sequence, prompt + i - 1, *id);
        }
    }
    tree.pack
}

/// How many of the first prompts fit into one pass; at least one. What a prompt shares with the one
/// before it costs nothing; what it shares with others only is not looked for here.
fn fitting(all: &[Branches]) -> usize {
    let mut rows = 0;
    let fits = all.iter().enumerate().take_while(|(i, branches)| {
        let before = i.checked_sub(1).map_or(&[][..], |before| &all[before].prompt);
        rows += branches.rows() - common(before, &branches.prompt);
        rows <= PACK_ROWS
    });
    fits.count().max(1)
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
        let all: Vec<Branches> = (0..24).map(branches).collect();
        assert!(fitting(&all) > 2 && fitting(&all) < all.len());
        let (one, three) = (all[0].rows(), pack(&all[..3]).rows());
        assert!(three + 2 * 80 <= 3 * one, "{three} rows for three, {one} for one");
        let together = model.score(&all).unwrap();
        for (one, scores) in all.iter().zip(&together) {
            assert_eq!(scores.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 40]);
            let alone = model.score(std::slice::from_ref(one)).unwrap().remove(0);
            let pairs = alone.concat().into_iter().zip(scores.concat());
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}
