//! Training data: corpora, shape checks, duplicates and contamination.
