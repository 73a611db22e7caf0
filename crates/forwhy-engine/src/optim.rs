//! AdamW (Loshchilov and Hutter 2019) with warm-up, cosine decay and clipping by global norm.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::llama::Scope;
use crate::simd::{dot, fma, multiversion};

/// Elements of one part of the update.
const PART: usize = 1 << 15;

/// Sums that the length of a gradient is made of.
const NORM_PARTS: usize = 256;

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// What is trained.
    pub scope: Scope,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Steps of the whole run: the cosine ends here.
    pub total_steps: usize,
    /// Learning rate at the end, as a share of the highest.
    pub min_lr_share: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Longest gradient; 0 does not clip.
    pub clip_norm: f32,
    /// Names the random start of adapters.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            scope: Scope::All,
            learning_rate: 1e-4,
            warmup_steps: 10,
            total_steps: 100,
            min_lr_share: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// Refuses settings out of range for a model of `layers` blocks.
    pub fn validate(&self, layers: usize) -> Result<(), EngineError> {
        let fail = |what: String| Err(EngineError::Config(what));
        match self.scope {
            Scope::Top(top) if top == 0 || top > layers => {
                return fail(format!("scope top {top}: the model has {layers} blocks"));
            }
            Scope::Lora { rank: 0, .. } => return fail("LoRA of rank 0 trains nothing".into()),
            Scope::Lora { alpha, .. } if !(alpha.is_finite() && alpha > 0.0) => {
                return fail(format!("LoRA alpha = {alpha}: expected a positive number"));
            }
            _ => {}
        }
        let ranges = [
            ("learning_rate", self.learning_rate, 0.0, 10.0),
            ("min_lr_share", self.min_lr_share, 0.0, 1.0),
            ("beta1", self.beta1, 0.0, 0.999_999),
            ("beta2", self.beta2, 0.0, 0.999_999),
            ("eps", self.eps, f32::MIN_POSITIVE, 1.0),
            ("weight_decay", self.weight_decay, 0.0, 10.0),
            ("clip_norm", self.clip_norm, 0.0, f32::MAX),
        ];
        match ranges.iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((name, value, low, high)) => {
                fail(format!("{name} = {value}: expected {low} to {high}"))
            }
            None if self.total_steps == 0 => fail("total_steps = 0: expected at least 1".into()),
            None => Ok(()),
        }
    }

    /// Learning rate of step `step`, counted from 0: linear warm-up to `learning_rate`, then a cosine
    /// down to `min_lr_share` of it at `total_steps`.
    pub fn learning_rate_at(&self, step: usize) -> f32 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f32 / self.warmup_steps as f32;
        }
        let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = ((step - self.warmup_steps) as f32 / length as f32).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
        self.learning_rate * (self.min_lr_share + (1.0 - self.min_lr_share) * cosine)
    }
}

/// Euclidean length of g. Sums of parts, whose number is fixed, are added in order.
pub(crate) fn norm(g: &[f32]) -> f64 {
    let mut sums = [0f64; NORM_PARTS];
    let part = g.len().div_ceil(NORM_PARTS).next_multiple_of(1 << 10);
    g.par_chunks(part).zip(&mut sums).for_each(|(g, sum)| *sum = squares(g));
    sums.iter().sum::<f64>().sqrt()
}

fn squares(g: &[f32]) -> f64 {
    g.chunks(1 << 10).map(|g| f64::from(squares_of(g))).sum()
}

/// Constants of one update.
#[derive(Clone, Copy)]
pub(crate) struct Update {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// Learning rate over the first moment's correction.
    rate: f32,
    /// 1 over the root of the second moment's correction.
    root: f32,
    /// What decay leaves of a weight.
    keep: f32,
    /// Multiplies the gradient: mean over targets, and clipping.
    scale: f32,
}

impl Update {
    /// Update number `step`, counted from 1, with learning rate `rate`.
    pub(crate) fn new(config: &TrainConfig, step: u64, rate: f32, scale: f32) -> Self {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        Update {
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            rate: (f64::from(rate) / correction(config.beta1)) as f32,
            root: (1.0 / correction(config.beta2).sqrt()) as f32,
            keep: 1.0 - rate * config.weight_decay,
            scale,
        }
    }

    /// One pass over weights, gradient and both moments.
    pub(crate) fn apply(self, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let moments = m.par_chunks_mut(PART).zip(v.par_chunks_mut(PART));
        let parts = w.par_chunks_mut(PART).zip(g.par_chunks(PART)).zip(moments);
        parts.for_each(|((w, g), (m, v))| apply_part(self, w, g, m, v));
    }
}

multiversion! { fn squares_of(g: &[f32]) -> f32 = squares_body }
multiversion! { fn apply_part(u: Update, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = apply_body }

#[inline(always)]
fn squares_body<const FMA: bool>(g: &[f32]) -> f32 {
    dot::<FMA>(g, g)
}

#[inline(always)]
fn apply_body<const FMA: bool>(u: Update, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * u.scale;
        *m = fma::<FMA>(u.beta1, *m, (1.0 - u.beta1) * g);
        *v = fma::<FMA>(u.beta2, *v, (1.0 - u.beta2) * g * g);
        *w = *w * u.keep - u.rate * *m / fma::<FMA>(v.sqrt(), u.root, u.eps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::noise;

    #[test]
    fn the_update_is_adamw() {
        let config = TrainConfig { weight_decay: 0.1, ..TrainConfig::default() };
        let (mut w, g1, g2) = (noise(70, 1), noise(70, 2), noise(70, 3));
        let start = w.clone();
        let (mut m, mut v) = (vec![0.0; 70], vec![0.0; 70]);
        Update::new(&config, 1, 1e-2, 0.5).apply(&mut w, &g1, &mut m, &mut v);
        Update::new(&config, 2, 1e-3, 1.0).apply(&mut w, &g2, &mut m, &mut v);
        for i in 0..70 {
            let (mut x, mut m, mut v) = (f64::from(start[i]), 0.0, 0.0);
            for (step, rate, g) in [(1, 1e-2, f64::from(g1[i]) * 0.5), (2, 1e-3, f64::from(g2[i]))]
            {
                (m, v) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
                let (mh, vh) = (m / (1.0 - 0.9f64.powi(step)), v / (1.0 - 0.999f64.powi(step)));
                x = x * (1.0 - rate * 0.1) - rate * mh / (vh.sqrt() + 1e-8);
            }
            assert!((f64::from(w[i]) - x).abs() < 1e-5, "{} {x}", w[i]);
        }
    }

    #[test]
    fn the_rate_warms_up_and_ends_at_its_share() {
        let config = TrainConfig {
            learning_rate: 2.0,
            warmup_steps: 4,
            total_steps: 14,
            ..TrainConfig::default()
        };
        assert_eq!(config.learning_rate_at(0), 0.5);
        assert_eq!(config.learning_rate_at(3), 2.0);
        assert_eq!(config.learning_rate_at(4), 2.0);
        assert!((config.learning_rate_at(9) - 1.1).abs() < 1e-6);
        assert!((config.learning_rate_at(14) - 0.2).abs() < 1e-6);
        assert!((config.learning_rate_at(99) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |c: TrainConfig| c.validate(2).unwrap_err().to_string();
        let base = TrainConfig::default();
        base.validate(2).unwrap();
        assert!(refused(TrainConfig { scope: Scope::Top(3), ..base.clone() }).contains("2 blocks"));
        let nan = TrainConfig { learning_rate: f32::NAN, ..base.clone() };
        assert!(refused(nan).contains("learning_rate = NaN"));
        assert!(refused(TrainConfig { total_steps: 0, ..base }).contains("total_steps"));
    }
}
