//! One token for each of several sequences, over their caches of keys and values.
//!
//! A cache row of a block is `[k heads | v heads]`, as it stands in a row of q, k, v. A sequence reads
//! the rows of its prompt, which sequences with the same prompt share, then its own.

use rayon::prelude::*;

use crate::llama::Llama;
use crate::llama::plan::add_bias;
use crate::ops::rope::Turn;
use crate::ops::{norm, rope, swiglu};
use crate::profile::{Part, span};
use crate::shape::Shape;
use crate::simd::{dot, exp_sum, fma, max, multiversion};

/// Cached rows, by block: `[t, 2kd]` each.
pub(crate) struct Cache(Vec<Vec<f32>>);

impl Cache {
    pub(crate) fn new(shape: &Shape) -> Self {
        Cache(vec![Vec::new(); shape.layers])
    }

    /// Adds the keys and values of rows of q, k, v of block `block`.
    pub(crate) fn push(&mut self, shape: &Shape, block: usize, qkv: &[f32]) {
        for row in qkv.chunks_exact(shape.qkv_width()) {
            self.0[block].extend_from_slice(&row[shape.attention_width()..]);
        }
    }
}

/// A sequence in the middle of being written.
pub(crate) struct Cursor<'a> {
    /// The last token, not yet in the cache.
    pub(crate) id: u32,
    /// Its position.
    pub(crate) position: u32,
    /// The prompt's rows.
    pub(crate) prompt: &'a Cache,
    /// Rows of the tokens after it.
    pub(crate) own: &'a mut Cache,
}

/// Logits[b,v] of the next token of each sequence; the caches grow by one row.
pub(crate) fn step(model: &mut Llama, cursors: &mut [Cursor]) -> Vec<f32> {
    let Llama { shape, plan, weights: w, table, .. } = model;
    let (b, h) = (cursors.len(), shape.hidden);
    let positions: Vec<u32> = cursors.iter().map(|c| c.position).collect();
    table.reach(positions.iter().max().map_or(0, |p| *p as usize + 1));
    let mut stream = Vec::with_capacity(b * h);
    for cursor in cursors.iter() {
        stream.extend_from_slice(&w[plan.embed.at + cursor.id as usize * h..][..h]);
    }
    let (mut normed, mut inv) = (vec![0f32; b * h], vec![0f32; b]);
    let (mut qkv, mut att) =
        (vec![0f32; b * shape.qkv_width()], vec![0f32; b * shape.attention_width()]);
    let (mut gate_up, mut act) = (vec![0f32; b * 2 * shape.mlp], vec![0f32; b * shape.mlp]);
    for (index, block) in plan.blocks.iter().enumerate() {
        norm::forward(&stream, &w[block.norm1.clone()], shape.rms_eps, &mut normed, &mut inv);
        span(Part::LinearFwd, || block.qkv.fwd_few(w, &normed, &mut qkv, false));
        block.finish_qkv(shape, w, &mut qkv, &mut []);
        rope::turn(table, &positions, &mut qkv, shape.heads + shape.kv_heads, Turn::Forward);
        span(Part::Attention, || attend(shape, index, cursors, &qkv, &mut att));
        span(Part::LinearFwd, || block.o.fwd_few(w, &att, &mut stream, true));
        add_bias(w, &block.o_bias, &mut stream);
        norm::forward(&stream, &w[block.norm2.clone()], shape.rms_eps, &mut normed, &mut inv);
        span(Part::LinearFwd, || block.gate_up.fwd_few(w, &normed, &mut gate_up, false));
        add_bias(w, &block.gate_up_bias, &mut gate_up);
        swiglu::forward(&gate_up, &mut act, shape.mlp);
        span(Part::LinearFwd, || block.down.fwd_few(w, &act, &mut stream, true));
        add_bias(w, &block.down_bias, &mut stream);
    }
    norm::forward(&stream, &w[plan.norm.clone()], shape.rms_eps, &mut normed, &mut inv);
    let mut logits = vec![0f32; b * shape.vocab];
    span(Part::Head, || plan.head.fwd_few(w, &normed, &mut logits, false));
    logits
}

/// Puts k and v of the new rows into the caches, then att[b,nd] from qkv[b, (n+2k)d].
fn attend(shape: &Shape, block: usize, cursors: &mut [Cursor], qkv: &[f32], att: &mut [f32]) {
    let rows = att.par_chunks_mut(shape.attention_width()).zip(qkv.par_chunks(shape.qkv_width()));
    rows.zip(cursors.par_iter_mut()).for_each(|((att, qkv), cursor)| {
        cursor.own.push(shape, block, qkv);
        let parts = [&cursor.prompt.0[block][..], &cursor.own.0[block][..]];
        let (d, width) = (shape.head_dim, 2 * shape.kv_heads * shape.head_dim);
        let group = shape.heads / shape.kv_heads * d;
        let groups = att.chunks_exact_mut(group).zip(qkv.chunks_exact(group));
        for (index, (out, q)) in groups.enumerate() {
            one_group(q, parts, width, (index * d, d), out);
        }
    });
}

multiversion! {
    /// out = softmax(q k) v for the query heads q[n/k, d] of one key/value head, over the cached rows
    /// (`width` long) of `parts`; `place` = (where k stands in a row, d); v stands half a row behind k.
    fn one_group(q: &[f32], parts: [&[f32]; 2], width: usize, place: (usize, usize), out: &mut [f32]) = one_group_body
}

/// Plain loops: a closure inside an iterator's own functions would miss the wide instructions.
#[inline(always)]
fn one_group_body<const FMA: bool>(
    q: &[f32],
    parts: [&[f32]; 2],
    width: usize,
    (k_at, d): (usize, usize),
    out: &mut [f32],
) {
    let (v_at, scale) = (k_at + width / 2, 1.0 / (d as f32).sqrt());
    let keys = (parts[0].len() + parts[1].len()) / width;
    let mut p = vec![0f32; keys * q.len() / d];
    let mut key = 0;
    for part in parts {
        for row in part.chunks_exact(width) {
            for (head, q) in q.chunks_exact(d).enumerate() {
                p[head * keys + key] = dot::<FMA>(q, &row[k_at..k_at + d]);
            }
            key += 1;
        }
    }
    for p in p.chunks_exact_mut(keys) {
        let most = max(p) * scale;
        let sum = exp_sum::<FMA>(p, scale, most);
        for p in p {
            *p /= sum;
        }
    }
    for (head, out) in out.chunks_exact_mut(d).enumerate() {
        let p = &p[head * keys..][..keys];
        for (at, out) in out.chunks_mut(WIDE).enumerate() {
            mix::<FMA>(p, parts, width, v_at + at * WIDE, out);
        }
    }
}

/// Outputs summed at a time: they stay in registers.
const WIDE: usize = 64;

/// out = sum over the rows of p times the row from `at` on; at most [`WIDE`] outputs.
#[inline(always)]
fn mix<const FMA: bool>(p: &[f32], parts: [&[f32]; 2], width: usize, at: usize, out: &mut [f32]) {
    let (mut sums, mut key, n) = ([0f32; WIDE], 0, out.len());
    for part in parts {
        for row in part.chunks_exact(width) {
            let v = &row[at..at + n];
            if let Ok(v) = <&[f32; WIDE]>::try_from(v) {
                for lane in 0..WIDE {
                    sums[lane] = fma::<FMA>(p[key], v[lane], sums[lane]);
                }
            } else {
                for (sum, v) in sums.iter_mut().zip(v) {
                    *sum = fma::<FMA>(p[key], *v, *sum);
                }
            }
            key += 1;
        }
    }
    out.copy_from_slice(&sums[..n]);
}
