//! Sequences that begin alike, as one pack: what several of them begin with is computed once.
//!
//! The sequences are sorted, so those with a common beginning stand side by side; each beginning
//! becomes a segment, the rest of each its child, down to the last difference (a radix tree).

use crate::pack::{Pack, Target};

/// Shorter common beginnings are not worth a segment of their own: attention works by segments.
const SHARED_AT_LEAST: usize = 4;

/// A pack of sequences, and where the rows of each of them stand.
pub(crate) struct Tree {
    pub(crate) pack: Pack,
    /// By sequence: its segments, root first.
    paths: Vec<Vec<usize>>,
    /// By segment: the place of its first row.
    starts: Vec<usize>,
}

impl Tree {
    /// The pack of `sequences`; rows appear in the order of the sorted sequences.
    pub(crate) fn new(sequences: &[&[u32]]) -> Self {
        let mut sorted: Vec<usize> = (0..sequences.len()).collect();
        sorted.sort_by_key(|i| sequences[*i]);
        let paths = vec![Vec::new(); sequences.len()];
        let mut tree = Tree { pack: Pack::new(), paths, starts: Vec::new() };
        tree.grow(sequences, &sorted, 0, None);
        tree
    }

    /// Adds what the sequences `group` (sorted, alike up to `depth`) hold from `depth` on.
    fn grow(
        &mut self,
        sequences: &[&[u32]],
        mut group: &[usize],
        depth: usize,
        parent: Option<usize>,
    ) {
        while let Some((&first, others)) = group.split_first() {
            let first = &sequences[first][depth..];
            let alike = |other: &usize| common(first, &sequences[*other][depth..]);
            let near = |n: usize| n >= SHARED_AT_LEAST || n == first.len();
            let members = 1 + others.iter().take_while(|other| near(alike(other))).count();
            let (now, later) = group.split_at(members);
            group = later;
            // sorted: the last one differs the earliest
            let shared = now.last().map_or(0, alike);
            if shared == 0 {
                continue;
            }
            let segment = self.pack.push_segment(first[..shared].to_vec(), parent);
            self.starts.push(self.pack.rows() - shared);
            now.iter().for_each(|i| self.paths[*i].push(segment));
            let longer = now.iter().position(|i| sequences[*i].len() > depth + shared);
            if let Some(longer) = longer.filter(|_| now.len() > 1) {
                self.grow(sequences, &now[longer..], depth + shared, Some(segment));
            }
        }
    }

    /// The segments of sequence `i`, root first.
    pub(crate) fn path(&self, i: usize) -> &[usize] {
        &self.paths[i]
    }

    /// The row at place `at` of sequence `i`.
    fn row(&self, i: usize, mut at: usize) -> usize {
        for segment in &self.paths[i] {
            let len = self.pack.segments()[*segment].ids.len();
            if at < len {
                return self.starts[*segment] + at;
            }
            at -= len;
        }
        unreachable!("a place within its sequence")
    }

    /// The token `id` is to be predicted behind place `at` of sequence `i`.
    pub(crate) fn push_target(&mut self, i: usize, at: usize, id: u32) {
        let row = self.row(i, at);
        self.pack.push_target(Target { row, id, weight: 1.0 });
    }
}

/// How many first tokens two sequences share.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tokens of sequence `i`, read back along its path.
    fn read(tree: &Tree, i: usize) -> Vec<u32> {
        tree.path(i).iter().flat_map(|s| tree.pack.segments()[*s].ids.clone()).collect()
    }

    #[test]
    fn a_common_beginning_is_one_segment() {
        let sequences: [&[u32]; 5] = [
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            &[9, 9],
            &[1, 2, 3, 4, 5, 6, 7, 8, 7],
            &[1, 2, 3, 4, 8],
            &[1, 2, 3, 4],
        ];
        let tree = Tree::new(&sequences);
        let ids: Vec<_> = tree.pack.segments().iter().map(|s| s.ids.clone()).collect();
        let parents: Vec<_> = tree.pack.segments().iter().map(|s| s.parent).collect();
        assert_eq!(
            ids,
            [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![7], vec![9], vec![8], vec![9, 9]]
        );
        assert_eq!(parents, [None, Some(0), Some(1), Some(1), Some(0), None]);
        assert_eq!(tree.row(2, 8), 8);
        assert_eq!(tree.row(3, 4), 10);
    }

    proptest! {
        #[test]
        fn every_sequence_reads_back_and_every_row_is_its_token(
            sequences in prop::collection::vec(prop::collection::vec(0u32..3, 1..14), 1..12)
        ) {
            let refs: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let tree = Tree::new(&refs);
            let tokens: Vec<u32> =
                tree.pack.segments().iter().flat_map(|s| s.ids.clone()).collect();
            prop_assert_eq!(tokens.len(), tree.pack.rows());
            for (i, sequence) in refs.iter().enumerate() {
                prop_assert_eq!(&read(&tree, i), sequence);
                for (at, id) in sequence.iter().enumerate() {
                    prop_assert_eq!(tokens[tree.row(i, at)], *id);
                }
                let path = tree.path(i);
                for (segment, parent) in path.iter().zip(
                    std::iter::once(None).chain(path.iter().copied().map(Some))
                ) {
                    prop_assert_eq!(tree.pack.segments()[*segment].parent, parent);
                }
            }
        }
    }
}
