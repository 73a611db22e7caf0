//! A training step in f32 allocates nothing once its buffers have grown to its packs. What does: `gemm`, in
//! each product, the memory that it packs its operands into (and frees behind it); and rayon, a block
//! of its queue each 63 times that work enters the pool. Whose an allocation is, is read from its
//! backtrace: the innermost of the crates named below.
#![allow(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]
#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use forwhy_engine::kernels::Kernels;
use forwhy_engine::llama::{Llama, Scope};
use forwhy_engine::pack::{Pack, Target};
use forwhy_engine::shape::{RopeScaling, Shape};
use forwhy_engine::trainer::{TrainConfig, Trainer};

/// The system's allocator, which notes where it is called from while `WATCHED`.
struct Watched;

static WATCHED: AtomicBool = AtomicBool::new(false);
static SEEN: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// This thread notes an allocation, and allocates for that.
    static NOTING: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if WATCHED.load(Ordering::Relaxed) && !NOTING.replace(true) {
        let trace = Backtrace::force_capture();
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
        NOTING.set(false);
    }
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Who may answer for an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Gemm,
    Rayon,
    Us,
}

/// Frames of these are an owner's. A parallel iterator's are not (they are `rayon`'s, not
/// `rayon_core`'s): a `collect` is its caller's.
const FRAMES: [(&str, Owner); 5] = [
    ("gemm", Owner::Gemm),
    ("dyn_stack", Owner::Gemm),
    ("crossbeam", Owner::Rayon),
    ("rayon_core", Owner::Rayon),
    ("forwhy_engine", Owner::Us),
];

/// The innermost owner on the way to an allocation.
fn owner(trace: &str) -> Owner {
    let here = |line: &&str| line.contains("allocations");
    let mut lines = trace.lines().skip_while(|line| !here(line)).skip_while(here);
    let of = |line: &str| FRAMES.iter().find(|(name, _)| line.contains(name)).map(|(_, o)| *o);
    lines.find_map(of).unwrap_or(Owner::Us)
}

fn shape() -> Shape {
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
        qk_norm: true,
        o_bias: false,
        mlp_bias: false,
        rope_scaling: RopeScaling::None,
        max_positions: 4096,
    }
}

/// A sequence and a prompt with continuations. More than 1,024 tokens are several blocks of keys.
fn pack(length: usize) -> Pack {
    let mut pack = Pack::new();
    let ids = |n: usize| -> Vec<u32> { (0..n).map(|i| (i * 31 % 160) as u32).collect() };
    pack.push_sequence(&ids(length), &vec![true; length]);
    let prompt = pack.push_segment(ids(50), None);
    pack.push_continuation(prompt, &ids(9), 0);
    pack.push_continuation(prompt, &ids(5), 2);
    pack.push_target(Target { row: 20, id: 3, weight: 2.5 });
    pack
}

/// Owners of the allocations of `work`, with where they come from.
fn allocations_of(work: impl FnOnce()) -> Vec<(Owner, String)> {
    WATCHED.store(true, Ordering::SeqCst);
    work();
    WATCHED.store(false, Ordering::SeqCst);
    let seen = std::mem::take(&mut *SEEN.lock().unwrap());
    let traces = seen.iter().map(ToString::to_string);
    traces.map(|trace| (owner(&trace), trace)).collect()
}

#[test]
fn a_step_allocates_nothing_but_what_gemm_and_rayon_do() {
    let lora = Scope::Lora { rank: 4, alpha: 8.0 };
    for (scope, recompute) in [(Scope::All, false), (Scope::Top(1), true), (lora, true)] {
        let mut model = Llama::random(shape(), 7, 2).unwrap();
        model.set_kernels(Kernels::F32).unwrap();
        model.set_recompute(recompute);
        let config = TrainConfig { scope, ..TrainConfig::default() };
        let mut trainer = Trainer::new(&mut model, config).unwrap();
        let packs = [pack(1100), pack(60)];
        trainer.step(&packs).unwrap();
        let seen = allocations_of(|| {
            trainer.step(&packs).unwrap();
        });
        let of = |owner| seen.iter().filter(move |(o, _)| *o == owner);
        assert!(of(Owner::Rayon).count() <= 1, "{scope:?}: work enters the pool four times a step");
        assert!(of(Owner::Gemm).count() > 0, "{scope:?}: the products are watched");
        let ours: Vec<&String> = of(Owner::Us).map(|(_, trace)| trace).collect();
        assert!(ours.is_empty(), "{scope:?}: {} allocations, as in\n{}", ours.len(), ours[0]);
        // what this test would find: the log-probabilities that a parallel iterator collects
        let found = allocations_of(|| {
            model.logprobs(&packs[1..]).unwrap();
        });
        assert!(
            found.iter().any(|(owner, trace)| {
                *owner == Owner::Us && trace.contains("log_probabilities")
            })
        );
    }
}
