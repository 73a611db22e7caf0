//! Distribution functions and quantiles: normal, Student's t, noncentral t, beta, binomial(1/2).
//!
//! Accuracy, checked against scipy (`scripts/reference.tsv`): 1e-9 relative or better.

use std::f64::consts::{PI, SQRT_2};

/// Natural logarithm of the gamma function for `x > 0` (Lanczos, g = 7, nine terms).
pub fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let base = x + 7.5;
    let series = COEFFICIENTS[1..]
        .iter()
        .zip(1..)
        .fold(COEFFICIENTS[0], |sum, (c, i)| sum + c / (x + f64::from(i)));
    0.5 * (2.0 * PI).ln() + (x + 0.5) * base.ln() - base + series.ln()
}

/// Regularised incomplete beta function I_x(a, b): the beta distribution function at `x`.
/// Continued fraction by Lentz's method (Abramowitz and Stegun 26.5.8).
pub fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast only on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_cdf(1.0 - x, b, a);
    }
    let ln_front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    ln_front.exp() / a * beta_fraction(x, a, b)
}

fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const MAX_TERMS: usize = 20_000;
    let keep_off_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / keep_off_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut product = d;
    for m in 1..MAX_TERMS {
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / keep_off_zero(1.0 + term * d);
            c = keep_off_zero(1.0 + term / c);
            step = c * d;
            product *= step;
        }
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    product
}

/// The `x` at which [`beta_cdf`] is `p`.
pub fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    bisect(0.0, 1.0, |x| beta_cdf(x, a, b) < p)
}

/// Standard normal distribution function.
pub fn normal_cdf(z: f64) -> f64 {
    0.5 * erfc(-z / SQRT_2)
}

/// Standard normal quantile for `0 < p < 1`.
pub fn normal_quantile(p: f64) -> f64 {
    bisect(-40.0, 40.0, |z| normal_cdf(z) < p)
}

/// Complementary error function: a series near 0, a continued fraction further out
/// (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.5 {
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    let fraction = (1..=80).rev().fold(x, |tail, n| x + f64::from(n) / 2.0 / tail);
    (-x * x).exp() / PI.sqrt() / fraction
}

/// Student's t distribution function with `df` degrees of freedom.
pub fn t_cdf(t: f64, df: f64) -> f64 {
    let tail = 0.5 * beta_cdf(df / (df + t * t), df / 2.0, 0.5);
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// Two-sided p of a t statistic.
pub fn t_two_sided(t: f64, df: f64) -> f64 {
    beta_cdf(df / (df + t * t), df / 2.0, 0.5)
}

/// Student's t quantile for `0 < p < 1`.
pub fn t_quantile(p: f64, df: f64) -> f64 {
    if p < 0.5 {
        return -t_quantile(1.0 - p, df);
    }
    let mut hi = 1.0;
    while t_cdf(hi, df) < p && hi < 1e12 {
        hi *= 2.0;
    }
    bisect(0.0, hi, |t| t_cdf(t, df) < p)
}

/// Noncentral t distribution function: the chance that (Z + `shift`) / S is at most `t`, where
/// S^2 is a chi-square on `df` degrees over `df`. Simpson's rule over S.
pub fn noncentral_t_cdf(t: f64, df: f64, shift: f64) -> f64 {
    const PANELS: u32 = 4_000;
    let spread = 1.0 / (2.0 * df).sqrt();
    let (lo, hi) = ((1.0 - 12.0 * spread).max(0.0), 1.0 + 12.0 * spread);
    let step = (hi - lo) / f64::from(PANELS);
    let ln_scale = std::f64::consts::LN_2 + df / 2.0 * (df / 2.0).ln() - ln_gamma(df / 2.0);
    let density = |s: f64| match s > 0.0 {
        true => (ln_scale + (df - 1.0) * s.ln() - df * s * s / 2.0).exp(),
        false if df > 1.0 => 0.0,
        false => ln_scale.exp(),
    };
    let sum: f64 = (0..=PANELS)
        .map(|i| {
            let s = lo + step * f64::from(i);
            let weight = if i == 0 || i == PANELS { 1.0 } else { 2.0 + 2.0 * f64::from(i % 2) };
            weight * density(s) * normal_cdf(t * s - shift)
        })
        .sum();
    (sum * step / 3.0).clamp(0.0, 1.0)
}

/// Chance of at most `k` heads in `n` throws of a fair coin.
pub fn fair_coin_cdf(k: u64, n: u64) -> f64 {
    if k >= n {
        return 1.0;
    }
    beta_cdf(0.5, (n - k) as f64, (k + 1) as f64)
}

/// The point of `[lo, hi]` where `below` turns from true to false, to the last bit or 200 halvings.
pub(crate) fn bisect(mut lo: f64, mut hi: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let mid = 0.5 * (lo + hi);
        if mid <= lo || mid >= hi {
            break;
        }
        if below(mid) { lo = mid } else { hi = mid }
    }
    0.5 * (lo + hi)
}
