//! Attention against plain loops in f64, and its gradients against finite differences.

use super::*;
use crate::checks::{assert_gradient, noise, tiny_shape};
use crate::pack::Pack;
use crate::threads::Threads;

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

/// More keys than one block holds, also of ancestors that are not neighbours.
fn long_pack() -> Pack {
    let mut pack = Pack::new();
    let root = pack.push_segment(vec![1; 1100], None);
    pack.push_segment(vec![1; 30], None);
    let child = pack.push_segment(vec![1; 300], Some(root));
    pack.push_segment(vec![1; 5], Some(root));
    pack.push_segment(vec![1; 200], Some(child));
    pack
}

fn shape() -> Shape {
    Shape { max_positions: 4096, ..tiny_shape() }
}

fn limited(one_block: usize, block: usize) -> Attention {
    Attention { limits: Limits { one_block, block }, ..Attention::new(&shape(), Kernels::F32) }
}

/// Blocks as usual; and so small that some rows of a block see no key of its last blocks of keys.
fn usual_and_small() -> [Attention; 2] {
    [Attention::new(&shape(), Kernels::F32), limited(20, 16)]
}

#[derive(PartialEq)]
struct Run {
    out: Vec<f32>,
    lse: Vec<f32>,
}

fn run(attention: Attention, qkv: &[f32], rows: &Rows) -> Run {
    let r = rows.ids.len();
    let mut run =
        Run { out: vec![9.0; r * attention.out_width()], lse: vec![9.0; r * attention.heads] };
    attention.forward(rows, qkv, &mut run.out, &mut run.lse, &mut Scratch::empty());
    run
}

/// The forward pass and the gradient.
fn run_both(attention: Attention, qkv: &[f32], rows: &Rows) -> (Run, Vec<f32>) {
    let kept = run(attention, qkv, rows);
    let (dout, mut dqkv) = (noise(kept.out.len(), 2), vec![7.0; qkv.len()]);
    let reads = Kept { qkv, out: &kept.out, lse: &kept.lse };
    attention.backward(rows, reads, &dout, &mut dqkv, &mut Scratch::empty());
    (kept, dqkv)
}

fn assert_close(what: &str, a: &[f32], b: &[f32], share: f32) {
    let largest = |x: &mut dyn Iterator<Item = f32>| x.fold(0f32, |m, x| m.max(x.abs()));
    assert!(a.len() == b.len() && a.iter().all(|a| a.is_finite()), "{what}");
    let worst = largest(&mut a.iter().zip(b).map(|(a, b)| a - b));
    assert!(worst <= share * largest(&mut b.iter().copied()), "{what}: {worst}");
}

/// Plain loops in f64, with visibility taken from the definition.
fn plain(qkv: &[f32], pack: &Pack) -> Vec<f32> {
    let (shape, rows) = (shape(), pack.resolve(&shape()).unwrap());
    let (d, w) = (shape.head_dim, shape.qkv_width());
    let x: Vec<f64> = qkv.iter().map(|x| f64::from(*x)).collect();
    let part = |row: usize, head: usize| &x[row * w + head * d..][..d];
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
                    let products = part(row, head).iter().zip(part(*key, k)).map(|(q, k)| q * k);
                    products.sum::<f64>() / (d as f64).sqrt()
                };
                let p: Vec<f64> = keys.iter().map(|key| score(key).exp()).collect();
                let sum: f64 = p.iter().sum();
                let mut mixed = vec![0f64; d];
                for (p, key) in p.iter().zip(&keys) {
                    mixed.iter_mut().zip(part(*key, v)).for_each(|(m, v)| *m += p / sum * v);
                }
                out.extend(mixed.iter().map(|m| *m as f32));
            }
        }
    }
    out
}

#[test]
fn a_row_sees_its_ancestors_and_its_own_past_and_nothing_else() {
    for pack in [pack(), long_pack()] {
        let rows = pack.resolve(&shape()).unwrap();
        let qkv = noise(pack.rows() * shape().qkv_width(), 1);
        let want = plain(&qkv, &pack);
        for attention in usual_and_small() {
            assert_close("output", &run(attention, &qkv, rows).out, &want, 3e-6);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let pack = pack();
    let rows = pack.resolve(&shape()).unwrap();
    let qkv = noise(pack.rows() * shape().qkv_width(), 1);
    for attention in usual_and_small() {
        let dqkv = run_both(attention, &qkv, rows).1;
        let dout = noise(pack.rows() * attention.out_width(), 2);
        assert_gradient("qkv", &qkv, &dqkv, |x| {
            let products = run(attention, x, rows).out.into_iter().zip(&dout);
            products.map(|(o, d)| f64::from(o) * f64::from(*d)).sum()
        });
    }
}

#[test]
fn many_blocks_of_keys_give_what_one_block_gives_also_where_scores_are_extreme() {
    let pack = long_pack();
    let rows = pack.resolve(&shape()).unwrap();
    for scale in [1.0, 30.0] {
        let mut qkv = noise(pack.rows() * shape().qkv_width(), 1);
        qkv.iter_mut().for_each(|x| *x *= scale);
        let (one, d_one) = run_both(limited(usize::MAX, 1), &qkv, rows);
        for attention in usual_and_small() {
            let (many, d_many) = run_both(attention, &qkv, rows);
            assert_close("output", &many.out, &one.out, 1e-5 * scale);
            assert_close("log-sum-exp", &many.lse, &one.lse, 1e-6);
            assert_close("gradient", &d_many, &d_one, 1e-5 * scale);
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pack = long_pack();
    let rows = pack.resolve(&shape()).unwrap();
    let qkv = noise(pack.rows() * shape().qkv_width(), 1);
    let on = |threads| {
        Threads::new(threads)
            .unwrap()
            .run(|| run_both(Attention::new(&shape(), Kernels::F32), &qkv, rows))
    };
    let one = on(1);
    assert!(one == on(2) && one == on(3));
}
