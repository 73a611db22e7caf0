//! What can go wrong in a computation, in words that say what to do.

use crate::shape::ShapeError;

/// A computation that was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The model's sizes cannot be run.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A pack that breaks a rule of [`crate::pack`].
    #[error("bad pack: {0}")]
    Pack(String),
    /// More positions than the model has, or than its sliding window.
    #[error(
        "{tokens} tokens do not fit into the model's {limit} (its positions, or its sliding window: \
         attention beyond one is not computed); shorten the text"
    )]
    TooLong {
        /// Tokens asked for.
        tokens: usize,
        /// The model's limit.
        limit: usize,
    },
    /// A number that is infinite or not a number.
    #[error("{what} is not finite; lower the learning rate or check the weights")]
    NotFinite {
        /// Which number.
        what: String,
    },
    /// A training setting out of range.
    #[error("training settings: {0}")]
    Config(String),
    /// Kernels that this build or this machine does not have.
    #[error("{0}")]
    Kernels(String),
    /// A state, tensor or cache that belongs to another model or scope.
    #[error("mismatch: {0}")]
    Mismatch(String),
    /// An earlier computation panicked and may have left half-written weights.
    #[error("the model failed in an earlier call; load it anew")]
    FailedBefore,
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The system's words.
        reason: String,
    },
}
