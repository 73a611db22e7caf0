//! The head, on target rows only and in chunks: final norm, logits, loss. The loss is the last node,
//! so its backward pass runs at once, on logits that never exist for more than [`HEAD_ROWS`] rows.

use super::Llama;
use super::gradient::Gradient;
use super::plan::Plan;
use super::space::{HEAD_ROWS, HeadSpace};
use crate::ops::loss;
use crate::ops::norm::{self, Kept};
use crate::pack::Target;
use crate::profile::{Part, span};
use crate::shape::Shape;

impl Llama {
    /// Calls `each` with the logits[n,v] of chunks of `rows` of the residual stream, in order.
    pub(super) fn each_logits(&mut self, rows: &[usize], mut each: impl FnMut(usize, &mut [f32])) {
        let Llama { shape, plan, weights, space, .. } = self;
        space.head(shape);
        let super::space::Space { stream, head: Some(head), .. } = space else {
            unreachable!("the head's buffers were just made")
        };
        for (chunk, rows) in rows.chunks(HEAD_ROWS).enumerate() {
            logits(shape, plan, weights, (stream, rows), head);
            each(chunk * HEAD_ROWS, &mut head.logits[..rows.len() * shape.vocab]);
        }
    }

    /// Loss of the targets (sum of weight * nats), and its gradient: into `g` for the head's own
    /// parameters, where they are trained, and into `space.dstream` for the blocks below.
    pub(super) fn head_gradient(&mut self, targets: &[Target], r: usize, g: &mut Gradient) -> f64 {
        let Llama { shape, plan, weights: w, space, .. } = self;
        space.head(shape);
        let super::space::Space { stream, dstream, head: Some(head), .. } = space else {
            unreachable!("the head's buffers were just made")
        };
        let h = shape.hidden;
        dstream[..r * h].fill(0.0);
        let mut total = 0.0;
        for (chunk, targets) in targets.chunks(HEAD_ROWS).enumerate() {
            let n = targets.len();
            let rows: Vec<usize> = targets.iter().map(|t| t.row).collect();
            let wanted: Vec<(u32, f32)> = targets.iter().map(|t| (t.id, t.weight)).collect();
            logits(shape, plan, w, (stream, &rows), head);
            let dlogits = &mut head.logits[..n * shape.vocab];
            total += span(Part::Loss, || loss::cross_entropy(dlogits, &wanted, shape.vocab));
            let (dnormed, dx) = (&mut head.dnormed[..n * h], &mut head.dx[..n * h]);
            span(Part::Head, || {
                plan.head.dx(w, dlogits, dnormed);
                g.head(plan.head, dlogits, &head.normed[..n * h], chunk > 0);
            });
            dx.fill(0.0);
            let kept = Kept { x: &head.x[..n * h], w: &w[plan.norm.clone()], inv: &head.inv[..n] };
            norm::backward(kept, dnormed, dx, g.final_norm(plan.norm.clone(), chunk > 0));
            // several targets may share a row
            for (row, dx) in rows.iter().zip(dx.chunks_exact(h)) {
                dstream[row * h..][..h].iter_mut().zip(dx).for_each(|(a, b)| *a += b);
            }
        }
        total
    }
}

/// head.logits[n,v] of `rows` of the stream.
fn logits(
    shape: &Shape,
    plan: &Plan,
    w: &[f32],
    (stream, rows): (&[f32], &[usize]),
    head: &mut HeadSpace,
) {
    let (h, n) = (shape.hidden, rows.len());
    for (x, row) in head.x.chunks_exact_mut(h).zip(rows) {
        x.copy_from_slice(&stream[row * h..][..h]);
    }
    let (x, normed) = (&head.x[..n * h], &mut head.normed[..n * h]);
    norm::forward(x, &w[plan.norm.clone()], shape.rms_eps, normed, &mut head.inv[..n]);
    let logits = &mut head.logits[..n * shape.vocab];
    span(Part::Head, || plan.head.fwd(w, normed, logits, false));
}
