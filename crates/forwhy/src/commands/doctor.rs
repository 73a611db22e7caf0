//! `forwhy doctor`.

use std::fmt::Write as _;

use anyhow::Result;
use forwhy_core::results::Maybe;
use forwhy_engine::{kernels, pull};
use forwhy_lab::environment;

use super::print;

/// Prints the machine, the code revision, the kernels in use and the models at hand.
pub(crate) fn run() -> Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let environment = environment::current(threads);
    let shown = |value: &Maybe<String>| match value {
        Maybe::Known(value) => value.clone(),
        Maybe::Missing(missing) => format!("unknown: {}", missing.missing),
    };
    let machine = &environment.machine;
    let mut out = String::new();
    writeln!(out, "forwhy    {} ({})", environment.version, shown(&environment.revision))?;
    writeln!(out, "system    {}", machine.system)?;
    writeln!(out, "processor {}, {} threads", shown(&machine.cpu), machine.threads)?;
    writeln!(out, "vectors   {}", machine.features.join(" "))?;
    match kernels::description() {
        Ok(kernels) => writeln!(out, "kernels   {kernels}")?,
        Err(error) => writeln!(out, "kernels   {error}")?,
    }
    match pull::find() {
        Ok(Some(path)) => writeln!(out, "model     {}", path.display())?,
        Ok(None) => writeln!(
            out,
            "model     not here; `forwhy model pull` fetches it\n{}",
            pull::by_hand()?
        )?,
        Err(error) => writeln!(out, "model     {error}")?,
    }
    print(&out)
}
