//! Fingerprints of evaluations: hashes of word n-grams, and reserved names. The crate that owns an
//! evaluation makes them; the crate that makes training data compares against them. So the text of
//! an evaluation never has to cross to the training side.

use std::collections::{BTreeMap, BTreeSet};

/// Words in a run that counts as a copy.
pub const NGRAM: usize = 8;

/// What must not occur in training data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    ngrams: BTreeSet<u64>,
    names: BTreeSet<String>,
}

/// Something that did occur.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hit {
    /// A run of [`NGRAM`] words that stands in an evaluation.
    Copied(String),
    /// A name reserved for an evaluation.
    Name(String),
}

impl Fingerprint {
    /// Adds all runs of words of `text`, except those that also stand in one of the `common` texts
    /// (the frame that every situation shares).
    pub fn add_text(&mut self, text: &str, common: &Fingerprint) {
        let hashes = ngrams(text).map(|run| hash(&run));
        self.ngrams.extend(hashes.filter(|h| !common.ngrams.contains(h)));
    }

    /// Reserves a name (a person, a company, an agent); compared as whole words, case-sensitive.
    pub fn reserve(&mut self, name: &str) {
        self.names.insert(words(name, false).join(" "));
    }

    /// How many runs and names it holds.
    pub fn size(&self) -> (usize, usize) {
        (self.ngrams.len(), self.names.len())
    }

    /// Everything of this fingerprint that occurs in `text`, each once.
    pub fn hits(&self, text: &str) -> Vec<Hit> {
        let copied = ngrams(text).filter(|run| self.ngrams.contains(&hash(run)));
        let mut found: BTreeSet<Hit> = copied.map(|run| Hit::Copied(run.join(" "))).collect();
        let plain = format!(" {} ", words(text, false).join(" "));
        let names = self.names.iter().filter(|n| plain.contains(&format!(" {n} ")));
        found.extend(names.map(|n| Hit::Name(n.clone())));
        found.into_iter().collect()
    }

    /// Share of the runs of `text` that stand in this fingerprint, 0 to 1; None if it is too short.
    pub fn overlap(&self, text: &str) -> Option<f64> {
        let (mut all, mut hit) = (0usize, 0usize);
        for run in ngrams(text) {
            all += 1;
            hit += usize::from(self.ngrams.contains(&hash(&run)));
        }
        (all > 0).then(|| hit as f64 / all as f64)
    }
}

/// Words of `text`: runs of letters, digits and apostrophes (straight or curled, given as straight),
/// without a possessive 's at their end, optionally in lower case.
pub fn words(text: &str, lower: bool) -> Vec<String> {
    let text = text.replace('\u{2019}', "'");
    let split = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let kept = split.map(|w| bare(w.trim_matches('\''))).filter(|w| !w.is_empty());
    kept.map(|w| if lower { w.to_lowercase() } else { w.to_string() }).collect()
}

/// A word without a possessive 's.
pub fn bare(word: &str) -> &str {
    let endings = ["'s", "'S", "\u{2019}s", "\u{2019}S"];
    endings.iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word)
}

fn ngrams(text: &str) -> impl Iterator<Item = Vec<String>> {
    let words = words(text, true);
    let count = (words.len() + 1).saturating_sub(NGRAM);
    (0..count).map(move |i| words[i..i + NGRAM].to_vec())
}

fn hash(run: &[String]) -> u64 {
    let digest = blake3::hash(run.join(" ").as_bytes());
    let (head, _) = digest.as_bytes().split_at(8);
    head.iter().fold(0, |h, b| h << 8 | u64::from(*b))
}

/// How often each first `n` words occur among `texts` (lower case), most frequent first.
pub fn openings<'a>(texts: impl Iterator<Item = &'a str>, n: usize) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        let first: Vec<String> = words(text, true).into_iter().take(n).collect();
        *counts.entry(first.join(" ")).or_default() += 1;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The quick brown fox jumps over the lazy dog tonight.";

    #[test]
    fn a_copied_run_is_found_whatever_case_and_punctuation() {
        let mut print = Fingerprint::default();
        print.add_text(TEXT, &Fingerprint::default());
        let hits = print.hits("He said: quick, BROWN fox jumps over the lazy dog!");
        assert_eq!(hits, [Hit::Copied("quick brown fox jumps over the lazy dog".into())]);
        assert!(print.hits("quick brown fox jumps over the lazy cat").is_empty());
        assert_eq!(print.overlap(TEXT), Some(1.0));
        assert_eq!(print.overlap("short"), None);
    }

    #[test]
    fn the_common_frame_does_not_count() {
        let mut frame = Fingerprint::default();
        frame.add_text(TEXT, &Fingerprint::default());
        let mut print = Fingerprint::default();
        print.add_text(TEXT, &frame);
        assert_eq!(print.size(), (0, 0));
    }

    #[test]
    fn names_match_as_whole_words() {
        let mut print = Fingerprint::default();
        print.reserve("Kyle Johnson");
        print.reserve("Argus");
        assert_eq!(print.hits("Ask Kyle Johnson."), [Hit::Name("Kyle Johnson".into())]);
        assert!(print.hits("Kyle met Argusson").is_empty());
        for text in ["Argus's logs", "Argus\u{2019}s logs", "the logs are Argus's."] {
            assert_eq!(print.hits(text), [Hit::Name("Argus".into())], "{text}");
        }
        print.reserve("Rao's Bakery");
        assert_eq!(print.hits("at Rao\u{2019}s Bakery").len(), 1);
    }

    #[test]
    fn a_copied_run_is_found_whatever_the_apostrophes() {
        let mut print = Fingerprint::default();
        print.add_text("They don't know that the dog's bowl was empty", &Fingerprint::default());
        assert!(
            print.overlap("they don\u{2019}t know that the dog\u{2019}s bowl was empty")
                == Some(1.0)
        );
    }
}
