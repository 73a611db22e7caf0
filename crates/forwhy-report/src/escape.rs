//! Makes any text harmless in HTML, SVG and Markdown. Models write what they like, and study files
//! come from anyone, so nothing reaches a page around this module.

/// Text for an HTML or SVG element or a quoted attribute.
pub(crate) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => push_visible(&mut out, c),
        }
    }
    out
}

/// Text for a Markdown paragraph or table cell: one line, no markup, no HTML, no image.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => push_visible(&mut out, c),
        }
    }
    // A bare address would become a link.
    out.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
}

/// Text for a terminal: no control characters, so no escape sequences.
pub(crate) fn terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c => push_visible(&mut out, c),
        }
    }
    out
}

/// A path inside the run folder that is safe in a link, or nothing.
pub(crate) fn href(path: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    let inside =
        !path.starts_with('/') && path.split('/').all(|part| part != ".." && !part.is_empty());
    (!path.is_empty() && path.bytes().all(plain) && inside).then_some(path)
}

/// Control characters, direction marks and invisible characters are shown by their code point.
fn push_visible(out: &mut String, c: char) {
    let direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let invisible = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    if direction || invisible || (c.is_control() && c != '\n' && c != '\t') {
        out.push_str(&format!("\u{27e8}U+{:04X}\u{27e9}", u32::from(c)));
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_35_markup_becomes_text() {
        assert_eq!(
            html(r#"<script>x</script><img onerror='a' src="b">&"#),
            "&lt;script&gt;x&lt;/script&gt;&lt;img onerror=&#39;a&#39; src=&quot;b&quot;&gt;&amp;"
        );
        assert_eq!(
            markdown("![x](http://a.b/c)|<svg>`\n#"),
            "\\!\\[x\\](http:&#47;&#47;a.b/c)\\|&lt;svg&gt;\\` \\#"
        );
    }

    #[test]
    fn fault_35_direction_marks_and_controls_are_shown() {
        assert_eq!(html("a\u{202e}b\u{0}c\nd"), "a⟨U+202E⟩b⟨U+0000⟩c\nd");
        assert_eq!(terminal("\u{1b}[2Jx\ny\u{2066}"), "⟨U+001B⟩[2Jx y⟨U+2066⟩");
        assert_eq!(markdown("zero\u{200b}width"), "zero⟨U+200B⟩width");
    }

    #[test]
    fn fault_35_links_stay_in_the_run_folder() {
        assert_eq!(href("transcripts/advice-1.html"), Some("transcripts/advice-1.html"));
        for bad in [
            "javascript:alert(1)",
            "//evil.example/x",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "",
            "a b",
            "a//b",
        ] {
            assert_eq!(href(bad), None, "{bad}");
        }
    }
}
