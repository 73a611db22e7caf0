//! Supervised training on rows and documents: batches, schedule, checkpoints, resume.
