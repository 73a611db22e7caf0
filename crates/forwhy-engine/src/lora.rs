//! LoRA (Hu et al. 2021): W + (alpha / rank) B A for all seven projections of every block.
//!
//! The adapted weights are merged into the model's flat buffer after each update, from a kept copy of
//! the originals; so forward, sampling and scoring are those of a plain model, and only the gradient
//! knows about adapters: dB = s dy^T (x A^T), dA = s (dy B)^T x.

use std::ops::Range;

use forwhy_core::seed::Stream;

use crate::buffer::Buf;
use crate::kernels::Kernels;
use crate::linear::{Linear, Mat, MatMut, Split, multiply};
use crate::shape::{Layout, Shape};

/// A fused matrix of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Qkv,
    O,
    GateUp,
    Down,
}

/// One adapted projection.
struct Part {
    block: usize,
    site: Site,
    /// Its rows within the fused matrix.
    rows: Range<usize>,
    /// Its weight in the model's flat buffer.
    weight: Linear,
    /// A[rank,inp] in the adapters' flat buffer.
    a: usize,
    /// B[out,rank] in the adapters' flat buffer.
    b: usize,
    /// Hugging Face name of the projection, without `.weight`.
    name: String,
}

/// A tensor's name, sizes, and range in a flat buffer.
pub(crate) type Place = (String, Vec<usize>, Range<usize>);

/// Adapters of a model.
pub(crate) struct Adapters {
    pub(crate) rank: usize,
    pub(crate) alpha: f32,
    /// A and B of all parts.
    pub(crate) flat: Buf,
    parts: Vec<Part>,
    /// The blocks' weights without adapters.
    base: Buf,
    /// Rows between A and B, while gradients are made.
    low: Vec<f32>,
}

impl Adapters {
    /// New adapters, B zero and A uniform within 1/sqrt(inp), as PEFT does.
    pub(crate) fn new(
        shape: &Shape,
        layout: &Layout,
        weights: &[f32],
        (rank, alpha): (usize, f32),
        stream: &mut Stream,
    ) -> Self {
        let (parts, size) = parts(shape, layout, rank);
        let mut flat = Buf::zeroed(size);
        for part in &parts {
            let bound = 1.0 / (part.weight.inp as f64).sqrt();
            let a = &mut flat[part.a..part.b];
            a.iter_mut().for_each(|a| *a = ((stream.unit() * 2.0 - 1.0) * bound) as f32);
        }
        let base = Buf::copied(&weights[layout.blocks_from(0)]);
        Adapters { rank, alpha, flat, parts, base, low: Vec::new() }
    }

    fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    fn a<'a>(&self, part: &Part, flat: &'a [f32]) -> Mat<'a> {
        Mat::new(&flat[part.a..part.b], self.rank, part.weight.inp, part.weight.inp)
    }

    fn b<'a>(&self, part: &Part, flat: &'a [f32]) -> Mat<'a> {
        let out = part.weight.out;
        Mat::new(&flat[part.b..part.b + out * self.rank], out, self.rank, self.rank)
    }

    /// The model's weights become base + s B A.
    pub(crate) fn merge(&self, weights: &mut [f32]) {
        weights[..self.base.len()].copy_from_slice(&self.base);
        for part in &self.parts {
            let Linear { at, out, inp, .. } = part.weight;
            let w = MatMut::new(&mut weights[at..at + out * inp], out, inp, inp);
            let (a, b) = (self.a(part, &self.flat), self.b(part, &self.flat));
            multiply(w, true, self.scale(), b, a, Split::Pool);
        }
    }

    /// The model's weights become the base again.
    pub(crate) fn unmerge(&self, weights: &mut [f32]) {
        weights[..self.base.len()].copy_from_slice(&self.base);
    }

    /// Adds the gradient of the adapters of one fused matrix to `g`.
    pub(crate) fn gradient(
        &mut self,
        block: usize,
        site: Site,
        fused: Linear,
        (dy, x): (&[f32], &[f32]),
        g: &mut [f32],
    ) {
        let (r, rank) = (x.len() / fused.inp, self.rank);
        let x = Mat::new(x, r, fused.inp, fused.inp);
        let mut low = std::mem::take(&mut self.low);
        low.resize(low.len().max(r * rank), 0.0);
        let mine = |p: &&Part| p.block == block && p.site == site;
        for part in self.parts.iter().filter(mine) {
            let (out, inp) = (part.weight.out, part.weight.inp);
            let dy = Mat::new(&dy[part.rows.start..], r, out, fused.out);
            let (a, b) = (self.a(part, &self.flat), self.b(part, &self.flat));
            let kernels = fused.kernels;
            let product = |dst: MatMut, add: bool, scale: f32, a: Mat, b: Mat| {
                kernels.multiply(dst, add, scale, (a, b), Split::Pool);
            };
            product(MatMut::new(&mut low, r, rank, rank), false, 1.0, x, a.t());
            let db = MatMut::new(&mut g[part.b..part.b + out * rank], out, rank, rank);
            product(db, true, self.scale(), dy.t(), Mat::new(&low, r, rank, rank));
            product(MatMut::new(&mut low, r, rank, rank), false, 1.0, dy, b);
            let da = MatMut::new(&mut g[part.a..part.b], rank, inp, inp);
            let low = Mat::new(&low, r, rank, rank);
            product(da, true, self.scale(), low.t(), x);
        }
        self.low = low;
    }

    /// Name, sizes and place of every adapter matrix, named as PEFT does.
    pub(crate) fn tensors(&self) -> Vec<Place> {
        places_of(&self.parts, self.rank)
    }
}

/// As [`Adapters::tensors`], of adapters that need not exist.
pub(crate) fn places(shape: &Shape, layout: &Layout, rank: usize) -> Vec<Place> {
    places_of(&parts(shape, layout, rank).0, rank)
}

fn places_of(parts: &[Part], rank: usize) -> Vec<Place> {
    let each = parts.iter().flat_map(|p| {
        let Linear { out, inp, .. } = p.weight;
        [
            (format!("{}.lora_A.weight", p.name), vec![rank, inp], p.a..p.b),
            (format!("{}.lora_B.weight", p.name), vec![out, rank], p.b..p.b + out * rank),
        ]
    });
    each.collect()
}

/// All adapted projections, and the number of parameters of their adapters.
fn parts(shape: &Shape, layout: &Layout, rank: usize) -> (Vec<Part>, usize) {
    let mut at = 0;
    let mut parts = Vec::new();
    for block in 0..shape.layers {
        let mut from = [0usize; 4];
        for (name, site) in PROJECTIONS {
            let name = format!("model.layers.{block}.{name}");
            let tensor = layout.tensor(&format!("{name}.weight"));
            let tensor = tensor.unwrap_or_else(|| unreachable!("the layout has {name}"));
            let (out, inp) = (tensor.shape[0], tensor.shape[1]);
            let start = &mut from[site as usize];
            let rows = *start..*start + out;
            *start += out;
            let (a, b) = (at, at + rank * inp);
            at = b + out * rank;
            let weight = Linear { at: tensor.at, out, inp, kernels: Kernels::F32 };
            parts.push(Part { block, site, rows, weight, a, b, name });
        }
    }
    (parts, at)
}

/// The projections of a block, in the order of their rows within the fused matrices.
const PROJECTIONS: [(&str, Site); 7] = [
    ("self_attn.q_proj", Site::Qkv),
    ("self_attn.k_proj", Site::Qkv),
    ("self_attn.v_proj", Site::Qkv),
    ("self_attn.o_proj", Site::O),
    ("mlp.gate_proj", Site::GateUp),
    ("mlp.up_proj", Site::GateUp),
    ("mlp.down_proj", Site::Down),
];
