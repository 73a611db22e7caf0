//! Local models: weights, tokenizer, chat rendering, forward and backward, LoRA, optimiser, sampling
//! and scoring. Explicit forward and backward for the Llama family, products in f32 or bf16; no tensor
//! framework.
//!
//! The main flow: files give weights and a tokenizer; a [`pack::Pack`] holds token rows and targets;
//! the model computes losses, gradients or log-probabilities of packs; [`local::LocalModel`] puts it
//! behind [`forwhy_core::model::Model`].

pub mod buffer;
pub mod calls;
pub mod checkpoint;
pub mod error;
pub mod generate;
pub mod gguf;
pub mod hf;
pub mod host;
pub mod kernels;
pub mod llama;
pub mod local;
pub mod optim;
pub mod pack;
pub mod peft;
pub mod profile;
pub mod pull;
pub mod quant;
pub mod render;
pub mod safetensors;
pub mod schedule;
pub mod score;
pub mod shape;
pub mod spelling;
pub mod tokenizer;
pub mod trainer;
pub mod trunk;
pub mod weights;

mod attention;
mod decode;
mod decode_weights;
mod few;
mod linear;
mod lora;
mod ops;
mod python_json;
mod sample;
mod simd;
mod threads;
mod tiles;
mod tree;

#[cfg(test)]
mod checks;
