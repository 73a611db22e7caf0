//! The constitution: Markdown, split into sections with stable ids.
//!
//! A heading is `## Title {#id}` or `### Title {#id}`; a section's body runs to the next heading of
//! either level. Ids stay when titles change, so that data rows can name the section they serve.

use std::collections::HashSet;

/// A constitution, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constitution {
    /// The document's title.
    pub title: String,
    /// In the order of the document.
    pub sections: Vec<Section>,
}

/// A part with a stable id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Stable name, e.g. `honesty` or `honesty.reports`.
    pub id: String,
    /// The heading.
    pub title: String,
    /// 2 for `##`, 3 for `###`.
    pub level: usize,
    /// The text below the heading, trimmed.
    pub body: String,
}

/// A constitution that cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("constitution, line {line}: {reason}")]
pub struct ConstitutionError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub reason: String,
}

impl Constitution {
    /// Splits `text`.
    pub fn parse(text: &str) -> Result<Self, ConstitutionError> {
        let mut lines = text.lines().enumerate().skip_while(|(_, l)| l.trim().is_empty());
        let title = match lines.next() {
            Some((_, l)) if l.starts_with("# ") => l[2..].trim().to_string(),
            other => return Err(fail(other.map_or(0, |(i, _)| i), "expected `# Title` first")),
        };
        let mut sections: Vec<Section> = Vec::new();
        let mut seen = HashSet::new();
        for (i, line) in lines {
            if let Some(section) = heading(line).map_err(|reason| fail(i, reason))? {
                if !seen.insert(section.id.clone()) {
                    return Err(fail(i, &format!("id {:?} is used twice", section.id)));
                }
                sections.push(section);
            } else if let Some(section) = sections.last_mut() {
                section.body.push_str(line);
                section.body.push('\n');
            }
        }
        if sections.is_empty() {
            return Err(fail(0, "no section: expected headings like `## Honesty {#honesty}`"));
        }
        sections.iter_mut().for_each(|s| s.body = s.body.trim().to_string());
        Ok(Constitution { title, sections })
    }

    /// The section with this id.
    pub fn section(&self, id: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.id == id)
    }
}

fn fail(index: usize, reason: &str) -> ConstitutionError {
    ConstitutionError { line: index + 1, reason: reason.into() }
}

/// `## Title {#id}` as an empty section; None if the line is no heading of level 2 or 3.
fn heading(line: &str) -> Result<Option<Section>, &'static str> {
    let level = line.bytes().take_while(|b| *b == b'#').count();
    if !(2..=3).contains(&level) || line.as_bytes().get(level) != Some(&b' ') {
        return Ok(None);
    }
    let inner = line[level..].trim();
    let missing = "expected a stable id at the heading's end, like `{#honesty}`";
    let (title, id) = inner.rsplit_once("{#").ok_or(missing)?;
    let id = id.strip_suffix('}').ok_or(missing)?.trim();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    if id.is_empty() || !id.chars().all(plain) {
        return Err("an id is made of a-z, 0-9, '-' and '.'");
    }
    let (id, title) = (id.to_string(), title.trim().to_string());
    Ok(Some(Section { id, title, level, body: String::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_ids_and_bodies() {
        let c =
            Constitution::parse("# T\nlead\n## A {#a}\none\n\ntwo\n### B c {#a.b}\nthree").unwrap();
        assert_eq!(c.title, "T");
        assert_eq!(c.section("a").unwrap().body, "one\n\ntwo");
        assert_eq!(c.section("a.b").unwrap().title, "B c");
        assert_eq!(c.section("a.b").unwrap().level, 3);
    }

    #[test]
    fn a_heading_without_id_is_named() {
        let e = Constitution::parse("# T\n\n## A\n").unwrap_err();
        assert!(e.to_string().starts_with("constitution, line 3: expected a stable id"), "{e}");
        assert!(
            Constitution::parse("# T\n## A {#a}\n## B {#a}").unwrap_err().reason.contains("twice")
        );
        assert!(Constitution::parse("").is_err());
        assert!(Constitution::parse("# T").is_err());
    }
}
