//! JSON text as Python's `json.dumps` writes it, which is what a chat template's `tojson` gives: a space
//! behind commas and colons, keys in their order, Python's spelling of floats.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// `json.dumps(value, indent=indent, ensure_ascii=ascii)`.
pub(crate) fn to_python_json(value: &Json, indent: Option<usize>, ascii: bool) -> String {
    let mut writer = Writer { indent, ascii, out: String::new() };
    writer.value(value, 0);
    writer.out
}

struct Writer {
    indent: Option<usize>,
    ascii: bool,
    out: String,
}

impl Writer {
    fn value(&mut self, value: &Json, depth: usize) {
        match value {
            Json::Array(items) => {
                self.items('[', ']', depth, items.iter().map(|v| (None, v)));
            }
            Json::Object(map) => {
                self.items('{', '}', depth, map.iter().map(|(k, v)| (Some(k.as_str()), v)));
            }
            Json::String(text) => self.text(text),
            Json::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
                Some(x) => self.out.push_str(&python_float(x)),
                None => self.out.push_str(&n.to_string()),
            },
            plain => self.out.push_str(&plain.to_string()),
        }
    }

    fn items<'a>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
    ) {
        self.out.push(open);
        let mut empty = true;
        for (key, item) in items {
            if !empty {
                self.out.push_str(if self.indent.is_some() { "," } else { ", " });
            }
            empty = false;
            self.new_line(depth + 1);
            if let Some(key) = key {
                self.text(key);
                self.out.push_str(": ");
            }
            self.value(item, depth + 1);
        }
        if !empty {
            self.new_line(depth);
        }
        self.out.push(close);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = Json::from(text).to_string();
        if !self.ascii {
            return self.out.push_str(&quoted);
        }
        for c in quoted.chars() {
            // Python escapes DEL in neither mode.
            if c.is_ascii() {
                self.out.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                write!(self.out, "\\u{unit:04x}").unwrap_or_default();
            }
        }
    }
}

/// `repr` of a finite float: the shortest digits that give it back; an exponent below 1e-4 and from
/// 1e16.
fn python_float(x: f64) -> String {
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(e) if x != 0.0 && !(-4..16).contains(&e) => {
            let sign = if e < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", e.abs())
        }
        _ => format!("{x:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_spelled_as_in_python() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-0.1, "-0.1"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e120, "-2.5e+120"),
            (0.30000000000000004, "0.30000000000000004"),
        ];
        for (x, want) in cases {
            assert_eq!(to_python_json(&json!(x), None, false), want);
        }
    }

    #[test]
    fn ascii_and_indents_are_as_in_python() {
        let value = json!({"z": [1, "\u{e9}\u{1f600}\u{7f}\n"], "a": {}, "e": []});
        assert_eq!(
            to_python_json(&value, None, true),
            "{\"z\": [1, \"\\u00e9\\ud83d\\ude00\u{7f}\\n\"], \"a\": {}, \"e\": []}"
        );
        assert_eq!(
            to_python_json(&json!({"a": [1]}), Some(2), false),
            "{\n  \"a\": [\n    1\n  ]\n}"
        );
    }
}
