//! Formats records of a run folder: terminal tables, Markdown, HTML, SVG figures.
