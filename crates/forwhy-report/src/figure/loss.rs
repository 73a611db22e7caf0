//! Loss curves: a small panel an arm and budget, one line a seed, the same vertical scale in all.

use forwhy_core::results::{LossPoint, Results};

use super::{Anchor, Axis, SERIES, Svg, WIDTH};
use crate::content::name_within;
use crate::number;

const PER_LINE: usize = 3;
const PANEL: (f64, f64) = (280.0, 130.0);
const PITCH: (f64, f64) = (WIDTH / PER_LINE as f64, 200.0);
const LEFT: f64 = 36.0;

/// One panel: a title and a line for each seed.
struct Panel<'a> {
    title: String,
    lines: Vec<(u64, &'a [LossPoint])>,
}

/// The panels, or nothing if nothing was trained.
pub(crate) fn draw(results: &Results) -> Option<String> {
    let panels = panels(results);
    let points = || panels.iter().flat_map(|p| &p.lines).flat_map(|(_, points)| *points);
    let losses: Vec<f64> = points().map(|p| p.loss).collect();
    let scale = Axis::over(&losses, (PANEL.1, 0.0))?;
    let mut svg = Svg::new(panels.len().div_ceil(PER_LINE) as f64 * PITCH.1);
    for (i, panel) in panels.iter().enumerate() {
        let x = (i % PER_LINE) as f64 * PITCH.0 + LEFT;
        let y = (i / PER_LINE) as f64 * PITCH.1 + 28.0;
        draw_panel(&mut svg, (x, y), panel, &scale);
    }
    let description = format!(
        "Training loss by optimiser step in {}, all on the same vertical scale.",
        number::plural(panels.len() as u64, "panel")
    );
    Some(svg.finish("loss", "Loss curves", &description))
}

fn panels(results: &Results) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for arm in &results.arms {
        for c in &arm.checkpoints {
            let Some(training) = c.training.known().filter(|t| !t.loss.is_empty()) else {
                continue;
            };
            let title = name_within(results, arm, c.budget, 36);
            match panels.iter_mut().find(|p| p.title == title) {
                Some(panel) => panel.lines.push((c.seed, &training.loss)),
                None => panels.push(Panel { title, lines: vec![(c.seed, &training.loss)] }),
            }
        }
    }
    panels
}

fn draw_panel(svg: &mut Svg, (x, y): (f64, f64), panel: &Panel<'_>, scale: &Axis) {
    svg.text("strong", (x, y - 12.0), Anchor::Start, &panel.title);
    for tick in scale.ticks() {
        let at = y + scale.at(tick);
        svg.line("grid", (x, at), (x + PANEL.0, at));
        let text = number::decimal(tick, scale.decimals());
        svg.text("muted", (x - 6.0, at + 4.0), Anchor::End, &text);
    }
    let last =
        panel.lines.iter().flat_map(|(_, points)| *points).map(|p| p.step).max().unwrap_or(1);
    let across = |step: u64| x + step as f64 / last.max(1) as f64 * PANEL.0;
    for (i, (seed, points)) in panel.lines.iter().enumerate() {
        let path: Vec<String> = points
            .iter()
            .map(|p| format!("{:.1} {:.1}", across(p.step), y + scale.at(p.loss)))
            .collect();
        let tip = format!("{}, seed {seed}", panel.title);
        svg.path(&format!("line s{}", i % SERIES), &format!("M{}", path.join("L")), &tip);
    }
    svg.text("muted", (x, y + PANEL.1 + 18.0), Anchor::Start, "step 0");
    let end = number::count(last);
    svg.text("muted", (x + PANEL.0, y + PANEL.1 + 18.0), Anchor::End, &end);
}
