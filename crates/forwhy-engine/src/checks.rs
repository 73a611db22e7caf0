//! Test-only: finite differences, a tiny shape, noise.

use forwhy_core::seed::stream;

use crate::shape::{RopeScaling, Shape};

/// `n` draws from the standard normal.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = stream(&["noise", &seed.to_string()]);
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// Two blocks, width 64.
pub(crate) fn tiny_shape() -> Shape {
    Shape {
        layers: 2,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        mlp: 96,
        vocab: 160,
        rms_eps: 1e-5,
        rope_theta: 1e4,
        tied_head: true,
        qkv_bias: false,
        qk_norm: false,
        o_bias: false,
        mlp_bias: false,
        rope_scaling: RopeScaling::None,
        max_positions: 1024,
    }
}

/// Central differences of `loss` against the gradient `g` at `x`: along `g` itself, and for its
/// largest of some entries. The step is chosen so that the loss moves by about 0.01: below that is
/// the noise of f32, above it curvature.
pub(crate) fn assert_gradient(what: &str, x: &[f32], g: &[f32], loss: impl Fn(&[f32]) -> f64) {
    let norm = g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    assert!(norm > 0.0 && norm.is_finite(), "{what}: the gradient is {norm}");
    let along = |step: f64| {
        let moved = x.iter().zip(g).map(|(x, g)| x + (step * f64::from(*g) / norm) as f32);
        loss(&moved.collect::<Vec<_>>())
    };
    let step = (0.01 / norm).min(1e-2);
    let slope = (along(step) - along(-step)) / (2.0 * step);
    assert!((slope / norm - 1.0).abs() < 1e-2, "{what}: slope {slope}, gradient {norm}");
    let mut picks: Vec<usize> = (0..x.len()).step_by(x.len().div_ceil(50)).collect();
    picks.sort_by(|a, b| g[*b].abs().total_cmp(&g[*a].abs()));
    for i in picks.into_iter().take(3).filter(|i| f64::from(g[*i].abs()) > 1e-3 * norm) {
        let step = (0.005 / g[i].abs()).min(2e-2);
        let at = |step: f32| {
            let mut moved = x.to_vec();
            moved[i] += step;
            loss(&moved)
        };
        let slope = (at(step) - at(-step)) / (2.0 * f64::from(step));
        let error = (slope - f64::from(g[i])).abs() / f64::from(g[i].abs());
        assert!(error < 5e-2, "{what}[{i}]: slope {slope}, gradient {}", g[i]);
    }
}
