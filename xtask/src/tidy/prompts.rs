//! Every prompt file is compiled into the code that fills it.

use std::collections::BTreeSet;

use super::Finding;
use crate::repository::{File, Repository};
use crate::rust::Source;

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let used: BTreeSet<String> = repository
        .rust()
        .filter(|(file, _)| !file.is_test)
        .flat_map(|(file, source)| included(file, source))
        .collect();
    let unused = repository.files.iter().filter(|f| is_prompt(&f.path) && !used.contains(&f.path));
    unused
        .map(|f| {
            let what = "no code includes this prompt (include_str!); use it or remove it";
            Finding::of(&f.path, what.into())
        })
        .collect()
}

/// `crates/*/src/**/prompts/*.md`
fn is_prompt(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["crates", _, "src", .., "prompts", file] if file.ends_with(".md"))
}

/// The files that code outside of tests includes as text.
fn included(file: &File, source: &Source) -> Vec<String> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let calls = source.find("include_str!").into_iter().filter(|at| !source.is_test(*at));
    calls
        .filter_map(|at| {
            let call = source.text[at..].split(')').next()?;
            resolve(folder, call.split('"').nth(1)?)
        })
        .collect()
}

/// The path from the root of `relative` as seen from `folder`, if it stays inside.
pub(super) fn resolve(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted::files;
    use crate::tidy::shown;

    const PROMPT: (&str, &str) = ("crates/forwhy-forge/src/advice/prompts/draft.md", "Write.");

    #[test]
    fn a_prompt_that_nobody_includes_is_found() {
        let found = shown(&check(&files(&[PROMPT])));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(PROMPT.0), "{found:?}");
    }

    #[test]
    fn an_included_prompt_is_used_wherever_the_code_stands() {
        for (path, code) in [
            ("crates/forwhy-forge/src/advice.rs", "include_str!(\"advice/prompts/draft.md\")"),
            ("crates/forwhy-forge/src/advice/fill.rs", "include_str!(\n  \"prompts/draft.md\"\n)"),
            ("crates/forwhy-forge/src/story/a.rs", "include_str!(\"../advice/prompts/draft.md\")"),
        ] {
            assert!(check(&files(&[PROMPT, (path, code)])).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_mention_in_a_comment_or_a_test_is_no_use() {
        let call = "include_str!(\"advice/prompts/draft.md\")";
        for code in
            [format!("// {call}"), format!("#[cfg(test)]\nmod tests {{ fn a() {{ {call}; }} }}")]
        {
            let here = files(&[PROMPT, ("crates/forwhy-forge/src/advice.rs", &code)]);
            assert_eq!(check(&here).len(), 1, "{code}");
        }
    }

    #[test]
    fn other_markdown_is_no_prompt() {
        assert!(!is_prompt("docs/prompts/a.md") && !is_prompt("crates/a/src/prompts.md"));
        assert!(is_prompt("crates/a/src/prompts/b.md"));
    }
}
