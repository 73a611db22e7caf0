//! CPU time of the attention of one block at the size of SmolLM2-135M, forward and backward, over one
//! sequence: `cargo run --release -p forwhy-engine --example attention -- TOKENS ROUNDS [THREADS]`.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod usage;

use std::time::Instant;

use forwhy_engine::kernels::{self, AttentionProbe};
use forwhy_engine::shape::Shape;

use usage::{cpu_secs, peak_mib};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> =
        std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let &[tokens, rounds, ref rest @ ..] = &numbers[..] else {
        return Err("usage: attention TOKENS ROUNDS [THREADS]".into());
    };
    let threads = rest.first().copied().unwrap_or(1);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let mut probe = AttentionProbe::new(kernels::chosen()?, &Shape::smollm2_135m(), tokens)?;
    probe.forward();
    probe.backward();
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        forward.push(timed(|| probe.forward()));
        backward.push(timed(|| probe.backward()));
    }
    for (name, times) in [("forward", forward), ("backward", backward)] {
        let (cpu, wall) = times.into_iter().unzip();
        println!("{tokens} {name:8} CPU {:8.3} ms, wall {:8.3} ms", median(cpu), median(wall));
    }
    println!("peak {} MiB", peak_mib());
    Ok(())
}

/// CPU and wall milliseconds of `work`.
fn timed(work: impl FnOnce()) -> (f64, f64) {
    let (cpu, wall) = (cpu_secs(), Instant::now());
    work();
    ((cpu_secs() - cpu) * 1e3, wall.elapsed().as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
