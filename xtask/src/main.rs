//! Rules of the repository as tests. `cargo xtask test` runs everything.
fn main() {}
