//! Time and memory of full training steps at the size of SmolLM2-135M, random weights:
//! `cargo run --release -p forwhy-engine --example trainstep -- BATCH LENGTH STEPS [THREADS]`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(unsafe_code, reason = "clocks and resource usage of the process")]

use std::time::Instant;

use forwhy_core::seed::stream;
use forwhy_engine::llama::Llama;
use forwhy_engine::pack::Pack;
use forwhy_engine::profile;
use forwhy_engine::shape::{RopeScaling, Shape};
use forwhy_engine::trainer::{TrainConfig, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let &[batch, length, steps, ref rest @ ..] = &args[..] else {
        return Err("usage: trainstep BATCH LENGTH STEPS [THREADS]".into());
    };
    let threads = rest.first().copied().unwrap_or(1);
    let mut model = Llama::random(smollm2_135m(), 1, threads)?;
    let mut draws = stream(&["trainstep"]);
    let mut pack = Pack::new();
    for _ in 0..batch {
        let ids: Vec<u32> = (0..=length).map(|_| draws.below(49_152) as u32).collect();
        pack.push_sequence(&ids, &vec![true; ids.len()]);
    }
    let rows = pack.rows() as f64;
    let mut trainer = Trainer::new(&mut model, TrainConfig::default())?;
    let packs = [pack];
    for step in 0..steps {
        profile::take();
        let (cpu, wall) = (cpu_secs(), Instant::now());
        let report = trainer.step(&packs)?;
        let (cpu, wall) = (cpu_secs() - cpu, wall.elapsed().as_secs_f64());
        println!(
            "step {step} loss {:.4} CPU {cpu:.2} s {:.1} tok/CPU-s, wall {wall:.2} s {:.1} tok/s, peak {} MiB",
            report.loss,
            rows / cpu,
            rows / wall,
            peak_mib()
        );
        if step + 1 == steps {
            for (part, seconds) in profile::take() {
                println!("  {part:16} {seconds:7.3} s {:5.1}%", 100.0 * seconds / wall);
            }
        }
    }
    Ok(())
}

fn smollm2_135m() -> Shape {
    Shape {
        layers: 30,
        hidden: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        mlp: 1536,
        vocab: 49_152,
        rms_eps: 1e-5,
        rope_theta: 1e5,
        tied_head: true,
        qkv_bias: false,
        qk_norm: false,
        o_bias: false,
        mlp_bias: false,
        rope_scaling: RopeScaling::None,
        max_positions: 8192,
    }
}

/// CPU time of the process.
fn cpu_secs() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Peak resident memory.
fn peak_mib() -> i64 {
    // SAFETY: all-zero is a valid rusage, and the pointer is to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss / 1024
}
