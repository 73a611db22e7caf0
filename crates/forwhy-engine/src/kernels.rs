//! Which kernels compute, and the kernels one by one, for benches.
//!
//! All products are f32 through the `gemm` crate, which takes the widest vectors of the processor, but
//! for the few rows of a decoding step; other kernels are compiled for several widths. The variable
//! [`VARIABLE`] names a choice, and a choice that this build or this machine does not have is refused
//! where a model is made: nothing else is computed in its place.

mod probe;

pub use self::probe::{AttentionProbe, DecodeProbe, HeadProbe, LinearProbe};
use crate::error::EngineError;
use crate::simd;

/// The environment variable that chooses the kernels.
pub const VARIABLE: &str = "FORWHY_KERNELS";

/// What the products of training and sampling are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// f32 throughout.
    F32,
}

/// The kernels in use: what [`VARIABLE`] names, or the only ones there are.
pub fn chosen() -> Result<Kernels, EngineError> {
    match std::env::var(VARIABLE) {
        Ok(name) => named(&name),
        Err(std::env::VarError::NotPresent) => Ok(Kernels::F32),
        Err(std::env::VarError::NotUnicode(_)) => named("(not text)"),
    }
}

fn named(name: &str) -> Result<Kernels, EngineError> {
    let refuse = |why: &str| {
        let what = format!("{VARIABLE}={name}: {why}. Use f32, or leave it unset");
        Err(EngineError::Kernels(what))
    };
    match name {
        "f32" => Ok(Kernels::F32),
        "avx512" | "amx" if !has_bf16(name) => {
            refuse("this processor does not have bf16 instructions of that kind")
        }
        "avx512" | "amx" => refuse("this version has no bf16 kernels yet"),
        _ => refuse("there are no such kernels"),
    }
}

/// Whether the processor could run bf16 kernels of this kind.
fn has_bf16(name: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // leaf 7: AVX512_BF16 is EAX bit 5 of subleaf 1, AMX-BF16 is EDX bit 22 of subleaf 0
        let cpuid = std::arch::x86_64::__cpuid_count;
        if cpuid(0, 0).eax < 7 {
            return false;
        }
        match name {
            "avx512" => cpuid(7, 1).eax >> 5 & 1 == 1,
            _ => cpuid(7, 0).edx >> 22 & 1 == 1,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _: &str = name;
        false
    }
}

/// What computes, in a line: for people.
pub fn description() -> Result<String, EngineError> {
    let Kernels::F32 = chosen()?;
    let vectors = match simd::level() {
        #[cfg(target_arch = "x86_64")]
        simd::Level::V4 => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        simd::Level::V3 => "AVX2 and FMA",
        simd::Level::Base if cfg!(target_arch = "aarch64") => "NEON",
        simd::Level::Base => "baseline",
    };
    Ok(format!("f32 ({vectors})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_are_not_there_are_refused_by_name() {
        assert_eq!(named("f32"), Ok(Kernels::F32));
        for name in ["amx", "avx512", "cuda", ""] {
            let refused = named(name).unwrap_err().to_string();
            assert!(refused.contains(&format!("FORWHY_KERNELS={name}:")), "{refused}");
        }
    }
}
