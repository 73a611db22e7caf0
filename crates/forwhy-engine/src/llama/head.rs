//! The head, on target rows only and in chunks: final norm, logits, loss. The loss is the last node,
//! so its backward pass runs at once, on logits that never exist for more than [`HEAD_ROWS`] rows.

use super::Llama;
use super::gradient::Gradient;
use super::plan::Plan;
use super::space::{HEAD_ROWS, HeadSpace};
use crate::linear::Linear;
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
            logits(shape, plan, weights, (stream, rows.iter().copied()), head);
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
            let rows = targets.iter().map(|t| t.row);
            logits(shape, plan, w, (stream, rows.clone()), head);
            let dlogits = &mut head.logits[..n * shape.vocab];
            let (dnormed, dx) = (&mut head.dnormed[..n * h], &mut head.dx[..n * h]);
            let normed = &head.normed[..n * h];
            total += loss_gradient(plan.head, w, targets, dlogits, dnormed, |dlogits| {
                g.head(plan.head, dlogits, normed, chunk > 0);
            });
            dx.fill(0.0);
            let kept = Kept { x: &head.x[..n * h], w: &w[plan.norm.clone()], inv: &head.inv[..n] };
            let dw = g.final_norm(plan.norm.clone(), chunk > 0);
            norm::backward(kept, dnormed, dx, dw, &mut head.sums);
            // several targets may share a row
            for (row, dx) in rows.zip(dx.chunks_exact(h)) {
                dstream[row * h..][..h].iter_mut().zip(dx).for_each(|(a, b)| *a += b);
            }
        }
        total
    }
}

/// Loss of logits[n,v] = x[n,h] W^T against `targets`; they become their gradient, which
/// `weights` takes for that of W, and dx[n,h] becomes that of x.
pub(crate) fn loss_gradient(
    head: Linear,
    w: &[f32],
    targets: &[Target],
    logits: &mut [f32],
    dx: &mut [f32],
    weights: impl FnOnce(&[f32]),
) -> f64 {
    let nats = span(Part::Loss, || loss::cross_entropy(logits, targets, head.out));
    span(Part::Head, || {
        head.dx(w, logits, dx);
        weights(logits);
    });
    nats
}

/// head.logits[n,v] of `rows` of the stream.
fn logits(
    shape: &Shape,
    plan: &Plan,
    w: &[f32],
    (stream, rows): (&[f32], impl ExactSizeIterator<Item = usize>),
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
