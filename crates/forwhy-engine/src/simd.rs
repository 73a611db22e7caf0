//! One source for every vector width: a kernel's body is written once, compiled for AVX-512, AVX2 and
//! the baseline, and chosen at run time. The baseline has no fused multiply-add (there it would be a
//! call into libm for each element), so its last bits differ.
//!
//! Bodies are plain loops over zipped slices. A closure handed to a larger function of the standard
//! library (`collect`, `flat_map`) may be compiled apart from the kernel, without its instructions:
//! then `mul_add` is that call, 10 times slower. A release binary should have no call of `fmaf`.
#![allow(unsafe_code, reason = "calls into functions compiled for detected processor features")]

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    V3,
    /// Whatever the build assumes.
    Base,
}

/// The widest level of this processor (detection is cached by the standard library).
#[inline]
pub(crate) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            return Level::V4;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::V3;
        }
    }
    Level::Base
}

/// Defines `fn name(args)` that runs `body::<FMA>(args)`, an `#[inline(always)]` function, compiled
/// for the processor at hand.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(unsafe_code, reason = "calls a function compiled for detected features")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
                fn v4($($arg: $ty),*) $(-> $ret)? { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn v3($($arg: $ty),*) $(-> $ret)? { $body::<true>($($arg),*) }
                match $crate::simd::level() {
                    // SAFETY: level() found these features on this processor.
                    $crate::simd::Level::V4 => return unsafe { v4($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::V3 => return unsafe { v3($($arg),*) },
                    $crate::simd::Level::Base => {}
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// a b + c, fused where that is one instruction.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Eight numbers that stand in one register.
pub(crate) type Eight = [f32; 8];

/// a b + c, lane by lane.
#[inline(always)]
pub(crate) fn fma_eight<const FMA: bool>(a: Eight, b: Eight, c: Eight) -> Eight {
    let mut sum = [0f32; 8];
    for lane in 0..8 {
        sum[lane] = fma::<FMA>(a[lane], b[lane], c[lane]);
    }
    sum
}

/// Sum of the lanes, pairwise.
#[inline(always)]
pub(crate) fn add_eight(s: Eight) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// Asks for the cache line at `at`, which need not be a place that may be read.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _: *const T = at;
}

/// e^x for x clamped to [-87, 88], about 2 ulp; plain code that becomes vector code.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// 1.5 2^23: adding it rounds to an integer that stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let p = fma::<FMA>(r, 1.987_569_1e-4, 1.398_2e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 1.666_666_5e-1);
    let p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p * r, r, r) + 1.0;
    // n is in [-126, 127] by the clamp: its low bits in `shifted`, moved into the exponent
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// Running sums of a reduction: strict order of additions would forbid vector code.
const LANES: usize = 32;

/// Sum of a[i] b[i].
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, a_tail) = a[..n].as_chunks::<LANES>();
    let (b, b_tail) = b[..n].as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = fma::<FMA>(a[lane], b[lane], sums[lane]);
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    add_lanes(sums) + tail
}

/// Sum of a[i] w[i] r b[i]: `dot` of b and the row that a, w and r make, which is not stored.
#[inline(always)]
pub(crate) fn dot_scaled<const FMA: bool>(a: &[f32], w: &[f32], r: f32, b: &[f32]) -> f32 {
    let n = a.len().min(w.len()).min(b.len());
    let (a, a_tail) = a[..n].as_chunks::<LANES>();
    let (w, w_tail) = w[..n].as_chunks::<LANES>();
    let (b, b_tail) = b[..n].as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for ((a, w), b) in a.iter().zip(w).zip(b) {
        for lane in 0..LANES {
            sums[lane] = fma::<FMA>(a[lane] * w[lane] * r, b[lane], sums[lane]);
        }
    }
    let tail = a_tail.iter().zip(w_tail).zip(b_tail).map(|((a, w), b)| a * w * r * b);
    add_lanes(sums) + tail.sum::<f32>()
}

/// Sum of the lanes, pairwise.
#[inline(always)]
fn add_lanes(sums: [f32; LANES]) -> f32 {
    let mut s = [0f32; 8];
    for (lane, s) in s.iter_mut().enumerate() {
        *s = (sums[lane] + sums[lane + 16]) + (sums[lane + 8] + sums[lane + 24]);
    }
    add_eight(s)
}

/// Largest element; -inf for none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let (body, tail) = x.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for c in body {
        for lane in 0..LANES {
            most[lane] = if c[lane] > most[lane] { c[lane] } else { most[lane] };
        }
    }
    most.iter().chain(tail).fold(f32::NEG_INFINITY, |m, x| m.max(*x))
}

/// x = exp(scale x - shift) in place; returns the sum.
#[inline(always)]
pub(crate) fn exp_sum<const FMA: bool>(x: &mut [f32], scale: f32, shift: f32) -> f32 {
    let (body, tail) = x.as_chunks_mut::<LANES>();
    let mut sums = [0f32; LANES];
    for c in body {
        for lane in 0..LANES {
            c[lane] = exp::<FMA>(fma::<FMA>(c[lane], scale, -shift));
            sums[lane] += c[lane];
        }
    }
    let mut rest = 0.0;
    for x in tail {
        *x = exp::<FMA>(fma::<FMA>(*x, scale, -shift));
        rest += *x;
    }
    add_lanes(sums) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library_at_every_level() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            for got in [exp::<true>(x), exp::<false>(x)] {
                assert!((f64::from(got) / want - 1.0).abs() < 4e-7, "exp({x}) = {got}");
            }
        }
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<false>(-1e30) < 1e-37 && exp::<true>(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn reductions_take_every_element_once() {
        for n in [0, 1, 31, 32, 33, 100] {
            let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            let want: f32 = x.iter().map(|x| x * x).sum();
            assert_eq!(dot::<false>(&x, &x), want);
            let halves = vec![0.5; n];
            assert_eq!(dot_scaled::<false>(&x, &halves, 4.0, &x), 2.0 * want);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut e = x.clone();
            let sum = exp_sum::<false>(&mut e, 0.5, 1.0);
            let want: f32 = x.iter().map(|x| (x * 0.5 - 1.0).exp()).sum();
            assert!((sum - want).abs() <= 1e-5 * want);
        }
    }
}
