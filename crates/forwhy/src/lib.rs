//! forwhy as a library: one name for all of its crates.
//!
//! The command is a thin layer over these; a study run from Rust takes the same path:
//! `forwhy::lab::plan::Plan::read`, then `forwhy::lab::run::run`, then `forwhy::report::report`.

pub use forwhy_arena as arena;
pub use forwhy_core as core;
pub use forwhy_engine as engine;
pub use forwhy_evals as evals;
pub use forwhy_forge as forge;
pub use forwhy_lab as lab;
pub use forwhy_model as model;
pub use forwhy_report as report;
pub use forwhy_serve as serve;
pub use forwhy_stats as stats;
pub use forwhy_store as store;
pub use forwhy_train as train;
