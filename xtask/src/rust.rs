//! A view of Rust source that is good enough for rules: which bytes are comments, which are
//! literals, and which are compiled only for tests. No parser: a lexer of comments and literals,
//! then a search for `#[cfg(test)]`.
//!
//! Blanked bytes become spaces and line breaks stay, so an offset means the same in every view.

use std::ops::Range;

/// The attribute that marks an item as compiled for tests only.
const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Without comments.
    pub(crate) text: String,
    /// Without comments and without what stands in literals.
    pub(crate) code: String,
    /// Items that are compiled for tests only.
    tests: Vec<Range<usize>>,
}

impl Source {
    /// Finds comments, literals and test items in `source`.
    pub(crate) fn parse(source: &str) -> Self {
        let spans = spans(source);
        let comments = |s: &&Span| s.kind == Kind::Comment;
        let text = blanked(source, spans.iter().filter(comments));
        let code = blanked(source, spans.iter());
        let tests = test_items(&code);
        Self { text, code, tests }
    }

    /// Whether the byte at `at` belongs to an item that is compiled for tests only.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// The line of the byte at `at`, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        line(&self.code, at)
    }

    /// Lines that hold code and are not compiled for tests only.
    pub(crate) fn code_lines(&self) -> usize {
        let mut start = 0;
        let mut count = 0;
        for line in self.code.split_inclusive('\n') {
            let first = line.find(|c: char| !c.is_whitespace());
            count += usize::from(first.is_some_and(|at| !self.is_test(start + at)));
            start += line.len();
        }
        count
    }

    /// The places of `needle` in code, as a whole word or path.
    pub(crate) fn find(&self, needle: &str) -> Vec<usize> {
        whole_words(&self.code, needle)
    }

    /// The files of the modules that this file, at `path`, declares for tests only.
    pub(crate) fn test_modules(&self, path: &str) -> Vec<String> {
        self.tests.iter().filter_map(|range| self.module_file(range.clone(), path)).collect()
    }

    /// The file of the item in `range`, if it is `mod name;`.
    fn module_file(&self, range: Range<usize>, path: &str) -> Option<String> {
        let item = self.code[range.clone()].strip_suffix(';')?;
        let name = item.split_whitespace().rev().take(2).collect::<Vec<_>>();
        let [name, "mod"] = name[..] else { return None };
        let (folder, file) = path.rsplit_once('/')?;
        if let Some((_, rest)) = self.text[range].split_once("#[path") {
            let literal = rest.split('"').nth(1)?;
            return Some(format!("{folder}/{literal}"));
        }
        match file {
            "lib.rs" | "main.rs" | "mod.rs" => Some(format!("{folder}/{name}.rs")),
            _ => Some(format!("{folder}/{}/{name}.rs", file.strip_suffix(".rs")?)),
        }
    }
}

/// The line of the byte at `at`, from 1.
pub(crate) fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

/// The places of `needle` in `text` where no letter, digit or underscore continues it.
pub(crate) fn whole_words(text: &str, needle: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let free = |inner: Option<char>, outer: Option<char>| {
        !(inner.is_some_and(is_word) && outer.is_some_and(is_word))
    };
    text.match_indices(needle)
        .filter(|(at, found)| {
            free(found.chars().next(), text[..*at].chars().next_back())
                && free(found.chars().next_back(), text[at + found.len()..].chars().next())
        })
        .map(|(at, _)| at)
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Comment,
    Literal,
}

#[derive(Debug)]
struct Span {
    kind: Kind,
    range: Range<usize>,
}

/// Comments and the insides of literals, in order.
fn spans(source: &str) -> Vec<Span> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let word_before = source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (kind, inside, end) = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            (Kind::Comment, 0..end, end)
        } else if rest.starts_with("/*") {
            let end = block_comment(rest);
            (Kind::Comment, 0..end, end)
        } else if let Some((open, close)) = raw_string(rest).filter(|_| !word_before) {
            closed(rest, open, &close)
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if is_char_literal(rest) {
            quoted(rest, '\'')
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        found.push(Span { kind, range: at + inside.start..at + inside.end });
        at += end;
    }
    found
}

/// The length of the block comment that `rest` opens; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the opening of a raw string that starts `rest`, and what closes it.
fn raw_string(rest: &str) -> Option<(usize, String)> {
    let prefix = ["r", "br", "cr"].into_iter().find(|p| {
        rest.strip_prefix(p).is_some_and(|r| r.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = rest[prefix.len()..].bytes().take_while(|b| *b == b'#').count();
    Some((prefix.len() + hashes + 1, format!("\"{}", "#".repeat(hashes))))
}

/// The inside and the end of a raw string.
fn closed(rest: &str, open: usize, close: &str) -> (Kind, Range<usize>, usize) {
    match rest[open..].find(close) {
        Some(at) => (Kind::Literal, open..open + at, open + at + close.len()),
        None => (Kind::Literal, open..rest.len(), rest.len()),
    }
}

/// The inside and the end of a literal between `quote`s.
fn quoted(rest: &str, quote: char) -> (Kind, Range<usize>, usize) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return (Kind::Literal, 1..at, at + 1),
            _ => {}
        }
    }
    (Kind::Literal, 1..rest.len(), rest.len())
}

/// Whether `rest` starts with a character literal, not a lifetime.
fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next() == Some('\'')
        && match chars.next() {
            Some('\\') => true,
            Some(_) => chars.next() == Some('\''),
            None => false,
        }
}

fn blanked<'a>(source: &str, spans: impl Iterator<Item = &'a Span>) -> String {
    let mut out = String::with_capacity(source.len());
    let mut done = 0;
    for span in spans {
        out.push_str(&source[done..span.range.start]);
        out.extend(source[span.range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
        done = span.range.end;
    }
    out.push_str(&source[done..]);
    out
}

/// The items behind a test attribute, from the attribute to the closing brace or semicolon.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices(TEST_ATTRIBUTE) {
        if items.last().is_none_or(|last| last.end <= start) {
            items.push(start..item_end(code, start + TEST_ATTRIBUTE.len()));
        }
    }
    items
}

/// The end of the item that starts at `start`, after its attributes.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0usize;
    let mut in_braces = false;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => {
                in_braces |= byte == b'{' && depth == 0;
                depth += 1;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
        if byte == b'}' && in_braces && depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_offsets_stay() {
        let source =
            "a(\"b \\\" // c\"); // d\nlet e = 'f'; /* g /* h */ i */ j::<'k>(r#\"l\"m\"#)";
        let parsed = Source::parse(source);
        for view in [&parsed.text, &parsed.code] {
            assert_eq!(view.len(), source.len());
            assert_eq!(view.find("let e"), source.find("let e"));
            assert!(view.contains("j::<'k>(r#\""));
            assert!(!view.contains('d') && !view.contains('g') && !view.contains("i *"));
        }
        assert!(parsed.text.contains("\"b \\\" // c\"") && parsed.text.contains("l\"m"));
        assert!(!parsed.code.contains("// c") && !parsed.code.contains("l\"m"));
        assert!(!parsed.code.contains('f'));
    }

    #[test]
    fn text_of_many_bytes_a_letter_keeps_offsets() {
        let source = "\"é — ü\" /* ß */ 'é' end";
        let parsed = Source::parse(source);
        assert_eq!(parsed.code.len(), source.len());
        assert_eq!(parsed.code.find("end"), source.find("end"));
    }

    #[test]
    fn literals_that_never_end_are_no_panic() {
        for source in ["\"", "\"a\\", "'\\", "/*", "r#\"", "/* /* */", "'", "b'", "r\"a", "\"a"] {
            assert_eq!(Source::parse(source).code.len(), source.len(), "{source}");
        }
    }

    #[test]
    fn test_items_end_with_their_brace_or_semicolon() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c() } }\nfn d() {}\n\
                      #[cfg(test)]\nuse e::f;\nfn g() {}\n#[cfg(test)]\nfn h(x: [u8; 2]) { i() }\nj()";
        let parsed = Source::parse(source);
        let is_test = |name: &str| parsed.is_test(source.find(name).unwrap());
        for name in ["c()", "e::f", "i()"] {
            assert!(is_test(name), "{name}");
        }
        for name in ["fn a", "fn d", "fn g", "j()"] {
            assert!(!is_test(name), "{name}");
        }
    }

    #[test]
    fn code_lines_leave_out_comments_blank_lines_and_tests() {
        let source = "//! What.\n\nfn a() {\n    // why\n    b();\n}\n#[cfg(test)]\nmod t {\n}\n";
        assert_eq!(Source::parse(source).code_lines(), 3);
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(whole_words("eprint!(1); print!(2); print!(3)", "print!").len(), 2);
        assert_eq!(whole_words("File::create_new File::create(", "File::create").len(), 1);
        assert_eq!(whole_words("unsafe_code unsafe {", "unsafe").len(), 1);
    }
}
