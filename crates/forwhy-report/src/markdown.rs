//! The report as Markdown, for a terminal pager or a code host. Figures are files beside it.

use crate::document::{Block, Cell, Document, Row, Table};
use crate::escape;

/// The whole file.
pub(crate) fn render(document: &Document) -> String {
    let mut out = format!(
        "# {}\n\n{}\n\n{}\n\n> {}\n",
        escape::markdown(&document.title),
        escape::markdown(&document.question),
        escape::markdown(&document.byline),
        escape::markdown(&document.nature)
    );
    for section in &document.sections {
        out.push_str(&format!("\n## {}\n", escape::markdown(section.title)));
        section.blocks.iter().for_each(|b| out.push_str(&block(b)));
    }
    out
}

fn block(block: &Block) -> String {
    match block {
        Block::Lead { what, figure } => {
            format!("\n**{}: {}**\n", escape::markdown(what), escape::markdown(figure))
        }
        Block::Para(text) => format!("\n{}\n", escape::markdown(text)),
        Block::Warning(text) => format!("\n> **Warning.** {}\n", escape::markdown(text)),
        Block::List(points) => {
            let items: Vec<String> =
                points.iter().map(|p| format!("- {}\n", escape::markdown(p))).collect();
            format!("\n{}", items.concat())
        }
        Block::Table(table) | Block::Folded(table) => self::table(table),
        Block::Figure(figure) => format!(
            "\n![{}]({})\n\n{}\n",
            escape::markdown(&figure.title),
            escape::href(&figure.path()).unwrap_or_default(),
            escape::markdown(&figure.caption)
        ),
    }
}

fn table(table: &Table) -> String {
    let head: Vec<String> = table.head.iter().map(|h| escape::markdown(h)).collect();
    let rule: Vec<&str> = (0..table.head.len())
        .map(|i| {
            let number = table.rows.iter().any(|r| matches!(r.cells.get(i), Some(Cell::Number(_))));
            if number { "---:" } else { "---" }
        })
        .collect();
    let rows: Vec<String> = table.rows.iter().map(row).collect();
    format!(
        "\n{}\n\n| {} |\n|{}|\n{}",
        escape::markdown(&table.caption),
        head.join(" | "),
        rule.join("|"),
        rows.concat()
    )
}

fn row(row: &Row) -> String {
    let cells: Vec<String> = row
        .cells
        .iter()
        .enumerate()
        .map(|(i, cell)| {
            let text = escape::markdown(&one_line(cell.words()));
            match cell {
                Cell::Link { href, .. } => match escape::href(href) {
                    Some(href) => format!("[{text}]({href})"),
                    None => text,
                },
                Cell::Missing(_) => format!("*{text}*"),
                _ if row.strong && i == 0 => format!("**{text}**"),
                _ => text,
            }
        })
        .collect();
    format!("| {} |\n", cells.join(" | "))
}

/// An interval follows its number; anything else is set off by a comma.
fn one_line(words: &str) -> String {
    match words.split_once('\n') {
        Some((first, rest)) if rest.starts_with('[') => format!("{first} {rest}"),
        Some((first, rest)) => format!("{first}, {rest}"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{fixture, report};

    #[test]
    fn the_whole_report_reads_as_it_did() {
        insta::assert_snapshot!("report_md", report(&fixture::results()).unwrap()[0].text);
    }

    #[test]
    fn fault_35_hostile_results_stay_text() {
        let text = report(&fixture::hostile()).unwrap()[0].text.replace("\\]", "");
        for live in ["<script", "<img", "<svg", "](http", "](javascript", "http://", "\u{202e}"] {
            assert!(!text.contains(live), "{live}");
        }
    }

    #[test]
    fn tables_have_as_many_cells_as_heads() {
        let text = &report(&fixture::results()).unwrap()[0].text;
        let mut width = None;
        for line in text.lines() {
            let bars = line.replace("\\|", "").matches('|').count();
            width = line.starts_with('|').then(|| *width.get_or_insert(bars));
            assert!(width.is_none_or(|w| w == bars), "{line}");
        }
    }
}
