//! Attention of one new token a sequence over its cached rows.
//!
//! Sequences with the same prompt are taken together, so that a page of it is read from memory once.
//! 1. The new rows go into the caches.
//! 2. A unit of parallel work is some sequences and a key/value head: scores of [`PAGE`] keys at a
//!    time, for up to three query heads ([`score_heads`]); softmax; values, likewise ([`mix_heads`]).
//!
//! What is computed for a sequence does not depend on those beside it.
#![allow(unsafe_code, reason = "units write to interleaved columns of the output")]

use std::array;

use rayon::prelude::*;

use super::Cursor;
use super::cache::{PAGE, Page, WIDE, padded};
use crate::buffer::Shared;
use crate::shape::Shape;
use crate::simd::{Eight, exp_sum, fma_eight, max, multiversion};

/// Sequences of one unit of work, at most: their scores stay in the cache.
const TOGETHER: usize = 8;
/// Registers of a page's scores, and of the outputs that are summed at once.
const REGISTERS: usize = PAGE / 8;
const _: () = assert!(PAGE == WIDE);

/// Puts k and v of the new rows into the caches, then att[b,nd] from qkv[b, (n+2k)d].
pub(super) fn attend(
    shape: &Shape,
    block: usize,
    cursors: &mut [Cursor],
    qkv: &[f32],
    att: &mut [f32],
) {
    let rows = cursors.par_iter_mut().zip(qkv.par_chunks(shape.qkv_width()));
    rows.for_each(|(cursor, qkv)| cursor.own.push(shape, block, qkv));
    let (cursors, att) = (&*cursors, Shared::new(att));
    let groups = together(cursors);
    let units = (0..groups.len() * shape.kv_heads).into_par_iter().with_max_len(1);
    units.for_each_init(Vec::new, |scores, unit| {
        let (from, to) = groups[unit / shape.kv_heads];
        let head = unit % shape.kv_heads;
        let unit = Unit::new(shape, (block, head), (from, &cursors[from..to]), qkv);
        one_unit(&unit, scores, &att);
    });
}

/// Neighbours with the same prompt, as ranges.
fn together(cursors: &[Cursor]) -> Vec<(usize, usize)> {
    let same = |a: &Cursor, b: &Cursor| std::ptr::eq(a.prompt, b.prompt);
    let (mut groups, mut at) = (Vec::new(), 0);
    for family in cursors.chunk_by(same) {
        for part in family.chunks(TOGETHER) {
            groups.push((at, at + part.len()));
            at += part.len();
        }
    }
    groups
}

/// Some sequences of one prompt, as one key/value head sees them.
struct Unit<'a> {
    /// Query heads of the key/value head.
    heads: usize,
    d: usize,
    /// Pages of the prompt.
    prompt: Vec<Page<'a>>,
    /// Each sequence's own pages.
    own: Vec<Vec<Page<'a>>>,
    /// Each sequence's q[heads,d].
    q: Vec<&'a [f32]>,
    /// Where the output of the first sequence begins, and how far the next ones are.
    out: (usize, usize),
}

impl<'a> Unit<'a> {
    fn new(
        shape: &Shape,
        (block, head): (usize, usize),
        (first, cursors): (usize, &'a [Cursor]),
        qkv: &'a [f32],
    ) -> Self {
        let (heads, d) = (shape.heads / shape.kv_heads, shape.head_dim);
        let own = |c: &'a Cursor| c.own.of(block).head(shape, head).collect();
        let rows = qkv.chunks_exact(shape.qkv_width()).skip(first);
        let at = head * heads * d;
        Unit {
            heads,
            d,
            prompt: cursors[0].prompt.of(block).head(shape, head).collect(),
            own: cursors.iter().map(own).collect(),
            q: rows.take(cursors.len()).map(|row| &row[at..at + heads * d]).collect(),
            out: (first * shape.attention_width() + at, shape.attention_width()),
        }
    }
}

multiversion! {
    /// att = softmax(q k) v for the unit's query heads, for each of its sequences.
    fn one_unit(unit: &Unit, scratch: &mut Vec<f32>, att: &Shared) = unit_body
}

/// Plain loops: a closure inside an iterator's own functions would miss the wide instructions.
#[inline(always)]
fn unit_body<const FMA: bool>(unit: &Unit, scratch: &mut Vec<f32>, att: &Shared) {
    let (n, heads, d) = (unit.own.len(), unit.heads, unit.d);
    let (shared, most) = (rows(&unit.prompt), unit.own.iter().map(|own| rows(own)).max());
    // the scores of a page are written whole, also where its rows end early
    let keys = shared + most.unwrap_or(0) + PAGE;
    scratch.clear();
    scratch.resize(n * heads * (keys + padded(d)), 0.0);
    let (scores, sums) = scratch.split_at_mut(n * heads * keys);
    let mut at = 0;
    for page in &unit.prompt {
        for (q, scores) in unit.q.iter().zip(scores.chunks_exact_mut(heads * keys)) {
            score::<FMA>(q, d, *page, (keys, at), scores);
        }
        at += page.rows;
    }
    for ((q, own), scores) in
        unit.q.iter().zip(&unit.own).zip(scores.chunks_exact_mut(heads * keys))
    {
        let mut at = shared;
        for page in own {
            score::<FMA>(q, d, *page, (keys, at), scores);
            at += page.rows;
        }
        for scores in scores.chunks_exact_mut(keys) {
            softmax::<FMA>(&mut scores[..at], 1.0 / (d as f32).sqrt());
        }
    }
    let mut at = 0;
    for page in &unit.prompt {
        let each = scores.chunks_exact(heads * keys).zip(sums.chunks_exact_mut(heads * padded(d)));
        for (p, sums) in each {
            mix::<FMA>(p, (keys, at), *page, heads, sums);
        }
        at += page.rows;
    }
    let each = scores.chunks_exact(heads * keys).zip(sums.chunks_exact_mut(heads * padded(d)));
    for (i, ((p, sums), own)) in each.zip(&unit.own).enumerate() {
        let mut at = shared;
        for page in own {
            mix::<FMA>(p, (keys, at), *page, heads, sums);
            at += page.rows;
        }
        // SAFETY: these rows and columns of the output belong to this unit.
        let out = unsafe { att.slice(unit.out.0 + i * unit.out.1, heads * d) };
        for (out, sum) in out.chunks_exact_mut(d).zip(sums.chunks_exact(padded(d))) {
            out.copy_from_slice(&sum[..d]);
        }
    }
}

fn rows(pages: &[Page]) -> usize {
    pages.iter().map(|page| page.rows).sum()
}

#[inline(always)]
fn softmax<const FMA: bool>(scores: &mut [f32], scale: f32) {
    let most = max(scores) * scale;
    let sum = exp_sum::<FMA>(scores, scale, most);
    for p in scores {
        *p /= sum;
    }
}

/// A line of a page, in registers.
type Line = [Eight; REGISTERS];

fn lines(page: &[f32]) -> &[Line] {
    page.as_chunks().0.as_chunks().0
}

/// scores[heads, keys], from key `at` on: those of q[heads,d] with the keys of a page.
#[inline(always)]
fn score<const FMA: bool>(
    q: &[f32],
    d: usize,
    page: Page,
    (keys, at): (usize, usize),
    scores: &mut [f32],
) {
    let blocks = q.chunks(3 * d).zip(scores.chunks_mut(3 * keys));
    for (q, scores) in blocks {
        match q.len() / d {
            3 => score_heads::<FMA, 3>(q, page, (keys, at), scores),
            2 => score_heads::<FMA, 2>(q, page, (keys, at), scores),
            _ => score_heads::<FMA, 1>(q, page, (keys, at), scores),
        }
    }
}

#[inline(always)]
fn score_heads<const FMA: bool, const N: usize>(
    q: &[f32],
    page: Page,
    (keys, at): (usize, usize),
    scores: &mut [f32],
) {
    let columns = lines(page.keys);
    let d = columns.len();
    let heads: [&[f32]; N] = array::from_fn(|head| &q[head * d..][..d]);
    let mut sums = [[[0f32; 8]; REGISTERS]; N];
    for j in 0..d {
        for head in 0..N {
            let q = [heads[head][j]; 8];
            for i in 0..REGISTERS {
                sums[head][i] = fma_eight::<FMA>(q, columns[j][i], sums[head][i]);
            }
        }
    }
    for (scores, sums) in scores.chunks_exact_mut(keys).zip(&sums) {
        scores[at..at + PAGE].copy_from_slice(sums.as_flattened());
    }
}

/// sums[heads,dp] += p[heads, keys], from key `at` on, times the values of a page.
#[inline(always)]
fn mix<const FMA: bool>(
    p: &[f32],
    (keys, at): (usize, usize),
    page: Page,
    heads: usize,
    sums: &mut [f32],
) {
    let dp = sums.len() / heads;
    for (p, sums) in p.chunks(3 * keys).zip(sums.chunks_mut(3 * dp)) {
        for column in 0..dp / WIDE {
            match sums.len() / dp {
                3 => mix_heads::<FMA, 3>(p, (keys, at), page, (column, dp), sums),
                2 => mix_heads::<FMA, 2>(p, (keys, at), page, (column, dp), sums),
                _ => mix_heads::<FMA, 1>(p, (keys, at), page, (column, dp), sums),
            }
        }
    }
}

#[inline(always)]
fn mix_heads<const FMA: bool, const N: usize>(
    p: &[f32],
    (keys, at): (usize, usize),
    page: Page,
    (column, dp): (usize, usize),
    sums: &mut [f32],
) {
    let values = &lines(page.values)[column * PAGE..][..page.rows];
    let n = values.len();
    let weights: [&[f32]; N] = array::from_fn(|head| &p[head * keys + at..][..n]);
    let mut kept: [Line; N] = array::from_fn(|head| lines(&sums[head * dp..][..dp])[column]);
    for (key, value) in values.iter().enumerate() {
        for head in 0..N {
            let p = [weights[head][key]; 8];
            for i in 0..REGISTERS {
                kept[head][i] = fma_eight::<FMA>(p, value[i], kept[head][i]);
            }
        }
    }
    for (sums, kept) in sums.chunks_exact_mut(dp).zip(&kept) {
        sums[column * WIDE..][..WIDE].copy_from_slice(kept.as_flattened());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{noise, tiny_shape};
    use crate::decode::cache::Cache;

    /// Caches of `rows` random rows in block 1 of the shape.
    fn cache(shape: &Shape, rows: usize, seed: u64) -> (Cache, Vec<f32>) {
        let (mut cache, qkv) = (Cache::new(shape), noise(rows * shape.qkv_width(), seed));
        cache.push(shape, 1, &qkv);
        (cache, qkv)
    }

    /// Plain loops in f64 over rows of q, k, v, for the q of the last one.
    fn plain(shape: &Shape, rows: &[f32]) -> Vec<f64> {
        let (d, share) = (shape.head_dim, shape.heads / shape.kv_heads);
        let rows: Vec<&[f32]> = rows.chunks(shape.qkv_width()).collect();
        let at = |row: &[f32], head: usize, j: usize| f64::from(row[head * d + j]);
        let last = rows[rows.len() - 1];
        let mut out = Vec::new();
        for head in 0..shape.heads {
            let (k, v) = (shape.heads + head / share, shape.heads + shape.kv_heads + head / share);
            let score = |row: &&[f32]| {
                let products = (0..d).map(|j| at(last, head, j) * at(row, k, j));
                (products.sum::<f64>() / (d as f64).sqrt()).exp()
            };
            let p: Vec<f64> = rows.iter().map(score).collect();
            let sum: f64 = p.iter().sum();
            out.extend(
                (0..d).map(|j| {
                    rows.iter().zip(&p).map(|(row, p)| p * at(row, v, j)).sum::<f64>() / sum
                }),
            );
        }
        out
    }

    /// Shapes whose query heads do not fill a block, and heads that are not whole registers wide.
    fn shapes() -> [Shape; 3] {
        let tiny = tiny_shape();
        [
            tiny.clone(),
            Shape { heads: 7, kv_heads: 1, head_dim: 20, ..tiny.clone() },
            Shape { heads: 6, kv_heads: 2, head_dim: 64, ..tiny },
        ]
    }

    #[test]
    fn a_new_token_sees_its_prompt_and_its_own_rows_across_pages() {
        for shape in shapes() {
            let width = shape.qkv_width();
            for (prompt, own) in [(1, 0), (31, 1), (32, 31), (33, 32), (70, 5)] {
                let (prompt, read) = cache(&shape, prompt, 1);
                let (mut own, written) = cache(&shape, own, 2);
                let new = noise(width, 3);
                let mut cursors = [Cursor { id: 0, position: 0, prompt: &prompt, own: &mut own }];
                let mut att = vec![9.0; shape.attention_width()];
                attend(&shape, 1, &mut cursors, &new, &mut att);
                let want = plain(&shape, &[&read[..], &written, &new].concat());
                let apart = att.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs());
                assert!(apart.fold(0.0, f64::max) < 1e-5);
            }
        }
    }

    #[test]
    fn a_sequence_has_the_same_bits_alone_and_among_others() {
        let [shape, ..] = shapes();
        let prompts = [cache(&shape, 40, 1).0, cache(&shape, 3, 2).0];
        let which = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        let run = |only: Option<usize>| {
            let chosen: Vec<usize> = (0..11).filter(|i| only.is_none_or(|o| o == *i)).collect();
            let mut own: Vec<Cache> =
                chosen.iter().map(|i| cache(&shape, i * 7, 10 + *i as u64).0).collect();
            let qkv: Vec<f32> =
                chosen.iter().flat_map(|i| noise(shape.qkv_width(), 50 + *i as u64)).collect();
            let mut cursors: Vec<Cursor> = own
                .iter_mut()
                .zip(&chosen)
                .map(|(own, i)| Cursor { id: 0, position: 0, prompt: &prompts[which[*i]], own })
                .collect();
            let mut att = vec![0.0; chosen.len() * shape.attention_width()];
            attend(&shape, 1, &mut cursors, &qkv, &mut att);
            att
        };
        let all = run(None);
        for (i, together) in all.chunks(shape.attention_width()).enumerate() {
            assert_eq!(run(Some(i)), together, "{i}");
        }
    }
}
