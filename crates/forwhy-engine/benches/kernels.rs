//! Kernels one by one, at the sizes of SmolLM2-135M, on one thread:
//! `cargo bench -p forwhy-engine -- linear`; `FORWHY_KERNELS=amx` and the like choose which.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use forwhy_engine::kernels::{self, AttentionProbe, DecodeProbe, HeadProbe, Kernels, LinearProbe};
use forwhy_engine::llama::Llama;
use forwhy_engine::shape::Shape;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let kernels = kernels::chosen()?;
    linear(&mut criterion, kernels);
    few(&mut criterion, kernels);
    attention(&mut criterion, kernels)?;
    head(&mut criterion, kernels);
    decode(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// The widest layer of a block, for the rows of a training step.
fn linear(criterion: &mut Criterion, kernels: Kernels) {
    let mut group = criterion.benchmark_group("linear 1024x576x3072");
    let mut probe = LinearProbe::new(kernels, 1024, 576, 3072);
    group.throughput(Throughput::Elements(probe.flop()));
    group.bench_function("forward", |b| b.iter(|| probe.forward()));
    group.bench_function("input gradient", |b| b.iter(|| probe.input_gradient()));
    group.bench_function("weight gradient", |b| b.iter(|| probe.weight_gradient()));
    group.finish();
}

/// The same layer for the rows of a decoding step: the kernel in use, and the general one.
fn few(criterion: &mut Criterion, kernels: Kernels) {
    let mut group = criterion.benchmark_group("few rows x576x3072");
    for rows in [1, 4, 16, 32, 64] {
        let mut probe = LinearProbe::new(kernels, rows, 576, 3072);
        group.throughput(Throughput::Elements(probe.flop()));
        group.bench_function(BenchmarkId::new("few", rows), |b| b.iter(|| probe.forward_few()));
        group.bench_function(BenchmarkId::new("general", rows), |b| b.iter(|| probe.forward()));
    }
    group.finish();
}

fn attention(criterion: &mut Criterion, kernels: Kernels) -> Outcome {
    let mut group = criterion.benchmark_group("attention");
    for tokens in [512, 2048] {
        let mut probe = AttentionProbe::new(kernels, &Shape::smollm2_135m(), tokens)?;
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("forward", tokens), |b| b.iter(|| probe.forward()));
        group.bench_function(BenchmarkId::new("backward", tokens), |b| {
            b.iter(|| probe.backward());
        });
    }
    group.finish();
    Ok(())
}

fn head(criterion: &mut Criterion, kernels: Kernels) {
    let mut group = criterion.benchmark_group("head");
    let mut probe = HeadProbe::new(kernels, 256, 576, 49_152);
    group.throughput(Throughput::Elements(256));
    group.bench_function("linear and cross-entropy, 256 rows", |b| {
        b.iter(|| black_box(probe.step()));
    });
    group.finish();
}

fn decode(criterion: &mut Criterion) -> Outcome {
    let mut group = criterion.benchmark_group("decode step, context 128");
    for sequences in [1, 16] {
        let model = Llama::random(Shape::smollm2_135m(), 1, 1)?;
        let mut probe = DecodeProbe::new(model, sequences, 128)?;
        group.throughput(Throughput::Elements(sequences as u64));
        group.bench_function(BenchmarkId::new("sequences", sequences), |b| {
            b.iter(|| black_box(probe.step()));
        });
    }
    group.finish();
    Ok(())
}
