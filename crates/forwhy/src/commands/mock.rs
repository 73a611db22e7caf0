//! `forwhy mock`: a server on loopback that plays a script, until it is interrupted.

use std::path::PathBuf;
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use forwhy_serve::mock::{Mock, Script};

use super::{input, print};

/// Longest script that is read.
const MAX_SCRIPT_BYTES: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The script, TOML: replies, latencies, faults. Without one, each request gets a short text.
    script: Option<PathBuf>,
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Names the random draws, instead of the script's seed.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut script = match &arguments.script {
        Some(path) => {
            let bytes = input(forwhy_store::atomic::read(path, MAX_SCRIPT_BYTES))?;
            let text = input(String::from_utf8(bytes))?;
            let script = Script::parse(&text);
            input(script.with_context(|| format!("cannot use {}", path.display())))?
        }
        None => Script::default(),
    };
    script.seed = arguments.seed.unwrap_or(script.seed);
    let (stop, stopped) = mpsc::channel();
    // A second signal finds nobody listening, which is as good.
    ctrlc::set_handler(move || {
        stop.send(()).ok();
    })?;
    let port = arguments.port;
    let mock =
        Mock::start(script, port).with_context(|| format!("cannot listen on port {port}"))?;
    print(&format!("{}\n", mock.base()))?;
    stopped.recv()?;
    print(&format!("{}\n", serde_json::to_string(&mock.counts())?))
}
