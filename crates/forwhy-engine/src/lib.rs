//! Local models: weights, tokenizer, chat rendering, forward and backward, LoRA, optimiser, sampling and scoring.
