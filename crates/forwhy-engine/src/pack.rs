//! Token rows that are computed together: one mechanism for packing, shared prefixes, training and
//! scoring.
//!
//! A pack holds segments. A segment attends to itself causally and to all rows of its ancestors; a
//! root's positions start at 0, a child's continue after its parent's. Several roots are packed
//! sequences that do not see one another; several children of one parent are continuations that share
//! one prefix. Targets say which rows predict what: rows without a target cost no head.
//!
//! 1. Build a [`Pack`] with the `push_` functions.
//! 2. `Pack::resolve` checks it against a shape and gives its rows, positions and what attends to what,
//!    which were worked out as it was built: a training step need not.

use std::ops::Range;

use crate::error::EngineError;
use crate::shape::Shape;
use crate::tree::Tree;

/// Tokens that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Token ids.
    pub ids: Vec<u32>,
    /// An earlier segment of the same pack that this one continues.
    pub parent: Option<usize>,
}

/// A prediction that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The row whose hidden state predicts.
    pub row: usize,
    /// The token to predict.
    pub id: u32,
    /// Weight of its loss; not negative.
    pub weight: f32,
}

/// Segments and targets that are computed in one pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pack {
    segments: Vec<Segment>,
    targets: Vec<Target>,
    rows: Rows,
}

impl Pack {
    /// An empty pack.
    pub fn new() -> Self {
        Pack::default()
    }

    /// Adds a segment and gives its index. Its rows follow those of the segments before.
    pub fn push_segment(&mut self, ids: Vec<u32>, parent: Option<usize>) -> usize {
        let segment = Segment { ids, parent };
        self.rows.push(&segment);
        self.segments.push(segment);
        self.segments.len() - 1
    }

    /// Adds a target.
    pub fn push_target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Adds a sequence with a target of weight 1 for each id whose mask `trained` is set; the first id
    /// cannot be predicted. The last id needs no row. Panics if the two differ in length.
    pub fn push_sequence(&mut self, ids: &[u32], trained: &[bool]) {
        assert_eq!(ids.len(), trained.len(), "one mask entry for each id");
        let Some((_, rows)) = ids.split_last() else { return };
        let from = self.rows();
        self.push_segment(rows.to_vec(), None);
        for (i, (id, _)) in ids.iter().zip(trained).enumerate().skip(1).filter(|(_, (_, t))| **t) {
            self.targets.push(Target { row: from + i - 1, id: *id, weight: 1.0 });
        }
    }

    /// Adds a continuation of segment `parent`, of which the ids from `from` on are targets. The last
    /// id needs no row; the first is predicted by the parent's last row. Panics if there is no such
    /// parent.
    pub fn push_continuation(&mut self, parent: usize, ids: &[u32], from: usize) {
        let Some((_, rows)) = ids.split_last() else { return };
        let parent_end = self.segments[..=parent].iter().map(|s| s.ids.len()).sum::<usize>();
        let start = self.rows();
        if !rows.is_empty() {
            self.push_segment(rows.to_vec(), Some(parent));
        }
        for (i, id) in ids.iter().enumerate().skip(from) {
            let row = if i == 0 { parent_end - 1 } else { start + i - 1 };
            self.targets.push(Target { row, id: *id, weight: 1.0 });
        }
    }

    /// Sequences as [`Pack::push_sequence`] has them, in a pack of their own in which what several
    /// begin with is computed once. Each target counts once, in the sequence whose mask has it. Panics
    /// if ids and mask of one differ in length.
    pub fn sharing(sequences: &[(&[u32], &[bool])]) -> Self {
        let rows = |ids: &'_ [u32]| ids.len().saturating_sub(1);
        let read: Vec<&[u32]> = sequences.iter().map(|(ids, _)| &ids[..rows(ids)]).collect();
        let mut tree = Tree::new(&read);
        for (i, (ids, trained)) in sequences.iter().enumerate() {
            assert_eq!(ids.len(), trained.len(), "one mask entry for each id");
            let targets = ids.iter().zip(*trained).enumerate().skip(1);
            for (at, (id, _)) in targets.filter(|(_, (_, trained))| **trained) {
                tree.push_target(i, at - 1, *id);
            }
        }
        tree.pack
    }

    /// Adds another pack behind this one; the two do not see one another.
    pub fn push_pack(&mut self, other: &Pack) {
        let (segments, rows) = (self.segments.len(), self.rows());
        for Segment { ids, parent } in &other.segments {
            self.push_segment(ids.clone(), parent.map(|p| p + segments));
        }
        let moved = |t: &Target| Target { row: t.row + rows, ..*t };
        self.targets.extend(other.targets.iter().map(moved));
    }

    /// The segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The targets, in the order in which they were added.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Token rows.
    pub fn rows(&self) -> usize {
        self.rows.ids.len()
    }

    /// Sum of the targets' weights.
    pub fn target_weight(&self) -> f64 {
        self.targets.iter().map(|t| f64::from(t.weight)).sum()
    }

    /// Names the rows (not the targets): packs with the same hash have the same hidden states.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for segment in &self.segments {
            let parent = segment.parent.map_or(u64::MAX, |p| p as u64);
            hasher.update(&parent.to_le_bytes());
            hasher.update(&(segment.ids.len() as u64).to_le_bytes());
            segment.ids.iter().for_each(|id| {
                hasher.update(&id.to_le_bytes());
            });
        }
        *hasher.finalize().as_bytes()
    }

    /// Its rows, if it is sound and fits a model of this shape.
    pub(crate) fn resolve(&self, shape: &Shape) -> Result<&Rows, EngineError> {
        let bad = |what: String| Err(EngineError::Pack(what));
        if self.rows() == 0 {
            return bad("it holds no token".into());
        }
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.ids.is_empty() {
                return bad(format!("segment {index} is empty"));
            }
            if segment.parent.is_some_and(|parent| parent >= index) {
                return bad(format!("the parent of segment {index} does not come before it"));
            }
            if let Some(id) = segment.ids.iter().find(|id| **id as usize >= shape.vocab) {
                return bad(format!("token {id} is outside the vocabulary of {}", shape.vocab));
            }
        }
        let tokens = self.rows.positions.iter().max().map_or(0, |p| *p as usize + 1);
        if tokens > shape.max_positions {
            return Err(EngineError::TooLong { tokens, limit: shape.max_positions });
        }
        for t in &self.targets {
            if t.row >= self.rows() || t.id as usize >= shape.vocab {
                return bad(format!("target {t:?}: no such row or token"));
            }
            if !(t.weight.is_finite() && t.weight >= 0.0) {
                return bad(format!("target {t:?}: the weight must be finite and not negative"));
            }
        }
        Ok(&self.rows)
    }
}

/// A pack, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    /// Token of each row.
    pub(crate) ids: Vec<u32>,
    /// Position of each row.
    pub(crate) positions: Vec<u32>,
    /// The segments.
    pub(crate) spans: Vec<Span>,
    /// Segments that may see one another: root first, each with all its descendants.
    pub(crate) trees: Vec<Vec<usize>>,
}

/// Rows of a segment and what they see.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Its rows.
    pub(crate) rows: Range<usize>,
    /// Rows of its ancestors, oldest first, neighbours joined.
    pub(crate) context: Vec<Range<usize>>,
    /// Rows in `context`.
    pub(crate) context_len: usize,
    tree: usize,
}

impl Rows {
    fn push(&mut self, segment: &Segment) {
        let start = self.ids.len();
        // a parent that does not come before it is refused by `resolve`
        let (context, tree) = match segment.parent.filter(|parent| *parent < self.spans.len()) {
            Some(parent) => self.context_of(parent),
            None => (Vec::new(), self.trees.len()),
        };
        if tree == self.trees.len() {
            self.trees.push(Vec::new());
        }
        let context_len = context.iter().map(Range::len).sum();
        self.trees[tree].push(self.spans.len());
        let rows = start..start + segment.ids.len();
        self.positions.extend((context_len..context_len + rows.len()).map(|p| p as u32));
        self.ids.extend(&segment.ids);
        self.spans.push(Span { rows, context, context_len, tree });
    }

    /// What a child of segment `parent` sees of its ancestors, and their tree.
    fn context_of(&self, parent: usize) -> (Vec<Range<usize>>, usize) {
        let Span { rows, context, tree, .. } = &self.spans[parent];
        let mut context = context.clone();
        match context.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => context.push(rows.clone()),
        }
        (context, *tree)
    }

    /// Most rows that one row sees.
    pub(crate) fn longest(&self) -> usize {
        self.spans.iter().map(|s| s.context_len + s.rows.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tiny_shape;

    #[test]
    fn children_continue_their_parent_and_do_not_see_one_another() {
        let mut pack = Pack::new();
        let root = pack.push_segment(vec![1, 2, 3], None);
        let child = pack.push_segment(vec![4, 5], Some(root));
        pack.push_segment(vec![6], Some(root));
        pack.push_segment(vec![7], Some(child));
        pack.push_segment(vec![8], None);
        let rows = pack.resolve(&tiny_shape()).unwrap();
        assert_eq!(rows.positions, [0, 1, 2, 3, 4, 3, 5, 0]);
        let context: Vec<_> = rows.spans.iter().map(|s| s.context.clone()).collect();
        assert_eq!(context[1], vec![0..3]);
        assert_eq!(context[2], vec![0..3]);
        assert_eq!(context[3], vec![0..5], "the joined rows of root and child");
        assert_eq!(rows.trees, [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(rows.longest(), 6);
    }

    #[test]
    fn a_sequence_has_a_target_for_each_trained_id_but_the_first() {
        let mut pack = Pack::new();
        pack.push_sequence(&[9, 8, 7, 6], &[true, false, true, true]);
        let rows: Vec<_> = pack.targets().iter().map(|t| (t.row, t.id)).collect();
        assert_eq!((pack.rows(), rows), (3, vec![(1, 7), (2, 6)]));
    }

    #[test]
    fn a_continuation_is_predicted_from_its_parents_last_row_on() {
        let mut pack = Pack::new();
        pack.push_sequence(&[1, 1], &[false, false]);
        let prompt = pack.push_segment(vec![1, 2, 3], None);
        pack.push_continuation(prompt, &[4, 5, 6], 0);
        pack.push_continuation(prompt, &[7], 0);
        pack.push_continuation(prompt, &[4, 5, 6], 2);
        let rows: Vec<_> = pack.targets().iter().map(|t| (t.row, t.id)).collect();
        assert_eq!(rows, [(3, 4), (4, 5), (5, 6), (3, 7), (7, 6)]);
        assert_eq!(pack.rows(), 8);
    }

    #[test]
    fn sequences_that_begin_alike_share_that_and_keep_their_own_targets() {
        let (a, b): ([u32; 7], [u32; 7]) = ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 9, 8, 7]);
        let masks = [3, 5].map(|from| (0..7).map(|i| i >= from).collect::<Vec<bool>>());
        let shared = Pack::sharing(&[(&a, &masks[0]), (&b, &masks[1])]);
        assert_eq!(shared.rows(), 4 + 2 + 2);
        let mut both = Pack::new();
        both.push_sequence(&[9, 9], &[false, true]);
        both.push_pack(&shared);
        let parents: Vec<_> = both.segments().iter().map(|s| s.parent).collect();
        assert_eq!(parents, [None, None, Some(1), Some(1)]);
        let targets: Vec<_> = both.targets().iter().map(|t| (t.row, t.id)).collect();
        assert_eq!(
            targets,
            [(0, 9), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 7)],
            "the shared 4 is a target of the first alone"
        );
    }

    #[test]
    fn fault_40_impossible_packs_are_refused_with_the_reason() {
        let reason = |pack: &Pack| pack.resolve(&tiny_shape()).err().unwrap().to_string();
        assert!(reason(&Pack::new()).contains("no token"));
        let one = |ids: Vec<u32>, parent| {
            let mut pack = Pack::new();
            pack.push_segment(ids, parent);
            pack
        };
        assert!(reason(&one(vec![160], None)).contains("outside the vocabulary of 160"));
        assert!(reason(&one(vec![1], Some(0))).contains("does not come before"));
        assert!(reason(&one(vec![1; 2000], None)).contains("do not fit into the model's 1024"));
        let mut pack = one(vec![1, 2], None);
        pack.push_target(Target { row: 0, id: 1, weight: f32::NAN });
        assert!(reason(&pack).contains("must be finite"));
    }
}
