//! Attention against plain loops in f64, and its gradients against finite differences.

use super::*;
use crate::checks::{assert_gradient, noise, tiny_shape};
use crate::pack::Pack;

/// Two trees; one has grandchildren and more rows than a block.
fn pack() -> Pack {
    let mut pack = Pack::new();
    let root = pack.push_segment(vec![1; 150], None);
    let child = pack.push_segment(vec![1; 5], Some(root));
    pack.push_segment(vec![1; 3], None);
    pack.push_segment(vec![1; 4], Some(root));
    pack.push_segment(vec![1; 6], Some(child));
    pack
}

struct Run {
    out: Vec<f32>,
    lse: Vec<f32>,
}

fn run(qkv: &[f32], rows: &Rows) -> Run {
    let shape = tiny_shape();
    let r = rows.ids.len();
    let mut run =
        Run { out: vec![0.0; r * shape.attention_width()], lse: vec![0.0; r * shape.heads] };
    let scratch = &mut Scratch::empty();
    Attention::new(&shape).forward(rows, qkv, &mut run.out, &mut run.lse, scratch);
    run
}

/// Plain loops in f64, with visibility taken from the definition.
fn plain(qkv: &[f32], pack: &Pack) -> Vec<f64> {
    let (shape, rows) = (tiny_shape(), pack.resolve(&tiny_shape()).unwrap());
    let (d, w) = (shape.head_dim, shape.qkv_width());
    let at = |row: usize, head: usize, j: usize| f64::from(qkv[row * w + head * d + j]);
    let mut out = Vec::new();
    for (s, span) in rows.spans.iter().enumerate() {
        let mut family = vec![s];
        while let Some(parent) = pack.segments()[family[family.len() - 1]].parent {
            family.push(parent);
        }
        for row in span.rows.clone() {
            let seen =
                |k: &usize| *k <= row && family.iter().any(|f| rows.spans[*f].rows.contains(k));
            let keys: Vec<usize> = (0..rows.ids.len()).filter(seen).collect();
            for head in 0..shape.heads {
                let (k, v) = (shape.heads + head / 2, shape.heads + shape.kv_heads + head / 2);
                let score = |key: &usize| {
                    (0..d).map(|j| at(row, head, j) * at(*key, k, j)).sum::<f64>()
                        / (d as f64).sqrt()
                };
                let p: Vec<f64> = keys.iter().map(|key| score(key).exp()).collect();
                let sum: f64 = p.iter().sum();
                for j in 0..d {
                    let mixed = p.iter().zip(&keys).map(|(p, key)| p * at(*key, v, j));
                    out.push(mixed.sum::<f64>() / sum);
                }
            }
        }
    }
    out
}

#[test]
fn a_row_sees_its_ancestors_and_its_own_past_and_nothing_else() {
    let (pack, shape) = (pack(), tiny_shape());
    let rows = pack.resolve(&shape).unwrap();
    let qkv = noise(pack.rows() * shape.qkv_width(), 1);
    let want = plain(&qkv, &pack);
    let got = run(&qkv, &rows).out;
    assert_eq!(got.len(), want.len());
    let worst = got.iter().zip(&want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (pack, shape) = (pack(), tiny_shape());
    let rows = pack.resolve(&shape).unwrap();
    let qkv = noise(pack.rows() * shape.qkv_width(), 1);
    let dout = noise(pack.rows() * shape.attention_width(), 2);
    let kept = run(&qkv, &rows);
    let mut dqkv = vec![7.0; qkv.len()];
    let attention = Attention::new(&shape);
    let reads = Kept { qkv: &qkv, out: &kept.out, lse: &kept.lse };
    attention.backward(&rows, reads, &dout, &mut dqkv, &mut Scratch::empty());
    assert_gradient("qkv", &qkv, &dqkv, |x| {
        let products = run(x, &rows).out.into_iter().zip(&dout);
        products.map(|(o, d)| f64::from(o) * f64::from(*d)).sum()
    });
}
