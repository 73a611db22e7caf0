//! Which kernels compute, and the kernels one by one, for benches.
//!
//! Products are computed in bf16 (operands rounded to bf16, sums and everything else in f32; master
//! weights stay f32) where the processor is made for it: with AMX tiles, or with the bf16 instructions
//! of AVX-512 on AMD's processors, where they do twice the work of f32 (on Intel's they do the same:
//! there f32 stays, unless AMX is there). Elsewhere products are f32 through the `gemm` crate, which
//! takes the widest vectors of the processor, but for the few rows of a decoding step;
//! [`crate::generate::DecodeWeights`] has more for those.
//!
//! The variable [`VARIABLE`] names a choice, and a choice that this machine does not have is refused
//! where a model is made: nothing else is computed in its place.

mod probe;

use serde::{Deserialize, Serialize};

pub use self::probe::{AttentionProbe, DecodeProbe, HeadProbe, LinearProbe};
use crate::error::EngineError;
use crate::simd;
use crate::tiles::Kernel;

/// The environment variable that chooses the kernels.
pub const VARIABLE: &str = "FORWHY_KERNELS";

/// What products are computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernels {
    /// f32 throughout.
    #[default]
    F32,
    /// bf16 in plain code, slowly, on any machine. Sums of the three are rounded in another order.
    Portable,
    /// bf16 with the instructions of AVX-512.
    Avx512,
    /// bf16 with AMX tiles.
    Amx,
}

impl Kernels {
    /// All of them.
    pub const ALL: [Kernels; 4] = [Kernels::F32, Kernels::Portable, Kernels::Avx512, Kernels::Amx];

    /// The name by which [`VARIABLE`] chooses them.
    pub fn name(self) -> &'static str {
        match self {
            Kernels::F32 => "f32",
            Kernels::Portable => "portable",
            Kernels::Avx512 => "avx512",
            Kernels::Amx => "amx",
        }
    }

    /// What a revision says of them behind its hash: nothing in f32.
    pub fn suffix(self) -> String {
        match self {
            Kernels::F32 => String::new(),
            _ => format!("+bf16-{}", self.name()),
        }
    }

    /// What sums products in bf16; None in f32, or where this build cannot have it.
    pub(crate) fn tiles(self) -> Option<Kernel> {
        match self {
            Kernels::F32 => None,
            Kernels::Portable => Some(Kernel::Portable),
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512 => Some(Kernel::Avx512),
            #[cfg(target_arch = "x86_64")]
            Kernels::Amx => Some(Kernel::Amx),
            #[cfg(not(target_arch = "x86_64"))]
            Kernels::Avx512 | Kernels::Amx => None,
        }
    }

    /// Whether this machine has them.
    pub fn available(self) -> bool {
        match self {
            Kernels::F32 => true,
            _ => self.tiles().is_some_and(Kernel::available),
        }
    }
}

/// The kernels in use: what [`VARIABLE`] names, or the best of this machine.
pub fn chosen() -> Result<Kernels, EngineError> {
    match std::env::var(VARIABLE) {
        Ok(name) => named(&name),
        // the tests of this crate hold f32 to PyTorch; those of bf16 name it
        Err(std::env::VarError::NotPresent) if cfg!(test) => Ok(Kernels::F32),
        Err(std::env::VarError::NotPresent) => Ok(best()),
        Err(std::env::VarError::NotUnicode(_)) => named("(not text)"),
    }
}

fn named(name: &str) -> Result<Kernels, EngineError> {
    let refuse = |why: &str| {
        let here: Vec<&str> =
            Kernels::ALL.into_iter().filter(|k| k.available()).map(Kernels::name).collect();
        let here = here.join(", ");
        let what = format!("{VARIABLE}={name}: {why}. Here: {here}; unset, {}", best().name());
        Err(EngineError::Kernels(what))
    };
    match Kernels::ALL.into_iter().find(|k| k.name() == name) {
        Some(kernels) if kernels.available() => Ok(kernels),
        Some(_) => refuse("this machine does not have them (processor, or operating system)"),
        None => refuse("there are no such kernels"),
    }
}

/// What is chosen where nothing is named.
fn best() -> Kernels {
    match () {
        () if Kernels::Amx.available() => Kernels::Amx,
        () if Kernels::Avx512.available() && of_amd() => Kernels::Avx512,
        () => Kernels::F32,
    }
}

/// Whether AMD made the processor.
fn of_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let id = std::arch::x86_64::__cpuid(0);
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// What computes, in a line: for people.
pub fn description() -> Result<String, EngineError> {
    let vectors = match simd::level() {
        #[cfg(target_arch = "x86_64")]
        simd::Level::V4 => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        simd::Level::V3 => "AVX2 and FMA",
        simd::Level::Base if cfg!(target_arch = "aarch64") => "NEON",
        simd::Level::Base => "baseline",
    };
    Ok(match chosen()? {
        Kernels::F32 => format!("f32 ({vectors})"),
        Kernels::Portable => format!("bf16 in plain code, slow; all else f32 ({vectors})"),
        Kernels::Avx512 => "bf16 (AVX-512 bf16); all else f32 (AVX-512)".to_string(),
        Kernels::Amx => "bf16 (AMX tiles); all else f32 (AVX-512)".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_are_not_there_are_refused_by_name_and_others_taken() {
        for kernels in Kernels::ALL {
            match kernels.available() {
                true => assert_eq!(named(kernels.name()), Ok(kernels)),
                false => {
                    let refused = named(kernels.name()).unwrap_err().to_string();
                    assert!(refused.contains("does not have them"), "{refused}");
                }
            }
        }
        assert!(Kernels::F32.available() && Kernels::Portable.available());
        for name in ["cuda", ""] {
            let refused = named(name).unwrap_err().to_string();
            assert!(refused.contains(&format!("FORWHY_KERNELS={name}:")), "{refused}");
        }
    }

    #[test]
    fn the_best_kernels_are_there_and_never_those_of_plain_code() {
        assert!(best().available());
        assert_ne!(best(), Kernels::Portable);
    }
}
