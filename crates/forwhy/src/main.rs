//! The `forwhy` command.
fn main() {}
