//! Data of a study: file names for people.

use std::path::PathBuf;

/// Paths as one text.
pub(crate) fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
