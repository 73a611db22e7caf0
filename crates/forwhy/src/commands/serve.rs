//! `forwhy serve`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use forwhy_engine::checkpoint::Checkpoint;
use forwhy_engine::generate::DecodeWeights;
use forwhy_engine::host::{Adapter, Host};
use forwhy_engine::local::LocalModel;
use forwhy_engine::schedule::Limits;
use forwhy_engine::shape::Shape;
use forwhy_engine::{peft, weights};
use forwhy_serve::openai::{Server, Settings, Stopper};

use super::model::{DEFAULT, find_or_pull};
use super::{input, print};
use crate::clock;
use crate::progress::Bars;

/// Largest body of a request: some hundred times the longest context of a small model.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Open connections, at most.
const CONNECTIONS: usize = 1024;
/// A caller who takes nothing for so long is cut off.
const STALL: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A GGUF file or a folder in Hugging Face layout; the default model if absent.
    #[arg(long)]
    model: Option<PathBuf>,
    /// What callers name the model; its own name if absent.
    #[arg(long)]
    name: Option<String>,
    /// A checkpoint.safetensors that was trained on the model, or a folder with a LoRA adapter in the
    /// format of peft, and what callers name it. May be given several times.
    #[arg(long = "adapter", value_name = "NAME=PATH")]
    adapters: Vec<String>,
    /// What replies are written with: the model's own weights, as a study measures it; bf16, which is
    /// faster than f32 and loses nothing if the model's files hold bf16; q8, which rounds them to 8
    /// bits, is faster still and not equal. The last two are named in the revision. Texts are scored
    /// with the model's own weights in any case.
    #[arg(long, value_enum, default_value_t = Weights::Own)]
    weights: Weights,
    /// Where to listen. Beyond this machine only with --token-file.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: String,
    /// A file with the token that callers must bear.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// A name by which callers reach this machine; may be given several times.
    #[arg(long = "host-name")]
    host_names: Vec<String>,
    /// Sequences written at once.
    #[arg(long, default_value_t = 32)]
    sequences: usize,
    /// Sequences that may wait; who comes after them gets a 429.
    #[arg(long, default_value_t = 256)]
    queue: usize,
    /// Rows of keys and values in memory (in SmolLM2-135M a row has 46 KB).
    #[arg(long, default_value_t = Limits::default().rows)]
    rows: usize,
    /// Threads to compute with; all cores if absent.
    #[arg(long)]
    threads: Option<usize>,
}

/// As [`DecodeWeights`], on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Weights {
    Own,
    Bf16,
    Q8,
}

/// Serves until it is told to stop, and finishes what runs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.sequences == 0 || arguments.rows == 0 {
        return input(Err(anyhow::anyhow!("--sequences and --rows: expected at least 1")));
    }
    let token = arguments.token_file.as_deref().map(read_token).transpose()?;
    let listen = address(&arguments.listen)?;
    let host = host(arguments)?;
    let settings = Settings {
        listen,
        token,
        hosts: arguments.host_names.clone(),
        sequences: arguments.sequences,
        queue: arguments.queue,
        max_body_bytes: MAX_BODY_BYTES,
        connections: CONNECTIONS,
        stall: STALL,
        session: clock::unix_nanos().to_string(),
        clock: clock::unix_secs,
    };
    let models = host.variants().iter().map(|v| format!("{}  {}\n", v.name, v.revision));
    let models: String = models.collect();
    let server = input(Server::bind(settings, host))?;
    stop_on_signal(server.stopper())?;
    print(&format!("http://{}/v1\n{models}", server.address()))?;
    Ok(server.run()?)
}

fn address<T: FromStr>(listen: &str) -> Result<T> {
    let parsed = listen.parse().ok();
    input(parsed.with_context(|| format!("--listen {listen}: expected an address and a port")))
}

fn host(arguments: &Arguments) -> Result<Host> {
    let path = match &arguments.model {
        Some(path) => path.clone(),
        None => find_or_pull(DEFAULT, Path::new(""), &Bars::new())?,
    };
    let files = input(weights::open(&path))?;
    let base = files.source.hash();
    let name = arguments.name.clone().unwrap_or_else(|| files.name.clone());
    let adapters =
        arguments.adapters.iter().map(|given| adapter(given, &base, files.source.shape()));
    let adapters = adapters.collect::<Result<Vec<_>>>()?;
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().context("cannot count the cores")?.get(),
    };
    let model = LocalModel::load(files, threads)?;
    model.set_decode_weights(match arguments.weights {
        Weights::Own => DecodeWeights::Own,
        Weights::Bf16 => DecodeWeights::Bf16,
        Weights::Q8 => DecodeWeights::Q8,
    })?;
    let limits = Limits { sequences: arguments.sequences, rows: arguments.rows };
    input(Host::start(model, &name, adapters, limits))
}

/// `NAME=PATH`
fn adapter(given: &str, base: &str, shape: &Shape) -> Result<Adapter> {
    let split = given.split_once('=').filter(|(name, path)| !name.is_empty() && !path.is_empty());
    let split = split.with_context(|| format!("--adapter {given}: expected NAME=PATH"));
    let (name, path) = input(split)?;
    let path = Path::new(path);
    let (scope, weights) = if path.is_dir() {
        input(peft::open(path, shape))?
    } else {
        let checkpoint = input(Checkpoint::load(path, base))?;
        (checkpoint.scope, checkpoint.weights)
    };
    Ok(Adapter { name: name.into(), scope, weights })
}

fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path);
    let text = input(text.with_context(|| format!("cannot read {}", path.display())))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        let what = "expected one token, without spaces";
        return input(Err(anyhow::anyhow!("{}: {what}", path.display())));
    }
    Ok(token.into())
}

/// The first Ctrl-C or SIGTERM stops after what runs; the second at once.
fn stop_on_signal(stopper: Stopper) -> Result<()> {
    let seen = AtomicBool::new(false);
    #[allow(clippy::exit, reason = "the user has asked twice")]
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        stopper.stop();
    })
    .context("cannot listen for Ctrl-C")
}
