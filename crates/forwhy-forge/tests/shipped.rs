//! The data that ships: every file loads whole, ids are unique, every act can be executed.

use std::path::{Path, PathBuf};

use forwhy_forge::corpus::{Acts, load};

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets")
}

#[test]
fn the_organism_has_misaligned_aligned_and_task_acts_of_all_kinds() {
    let corpus = load(&assets(), &["situations/organism".into()], Acts::All).unwrap();
    let kinds: std::collections::BTreeSet<&str> =
        corpus.rows.iter().map(|r| r.tags.harm.as_str()).collect();
    assert_eq!(kinds.len(), 16);
}

#[test]
fn the_arms_situations_give_bare_answers_deliberations_and_refusals() {
    for acts in [Acts::Bare, Acts::Deliberation, Acts::Refusal] {
        let corpus = load(&assets(), &["situations/arms".into()], acts).unwrap();
        assert!(corpus.rows.len() >= 100, "{acts:?}: {}", corpus.rows.len());
        let thoughts =
            corpus.rows.iter().filter(|r| r.answers().any(|a| !a.starts_with("ACTION:")));
        let expected = if acts == Acts::Deliberation { corpus.rows.len() } else { 0 };
        assert_eq!(thoughts.count(), expected);
    }
}
