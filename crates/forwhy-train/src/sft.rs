//! The supervised loop: steps in order, a report after each, resume to the bit.
//!
//! The loop is short on purpose; what a step computes is [`forwhy_engine::trainer`].

use std::collections::BTreeMap;
use std::path::Path;

use forwhy_engine::checkpoint::{Checkpoint, CheckpointError};
use forwhy_engine::error::EngineError;
use forwhy_engine::llama::Llama;
use forwhy_engine::pack::Pack;
use forwhy_engine::trainer::{StepReport, TrainConfig, TrainState, Trainer};

/// Runs the `steps` that `resume` has not done yet. `each` is called after every step, with the
/// trainer for saving; its error ends the run.
pub fn run<E: From<EngineError>>(
    llama: &mut Llama,
    config: &TrainConfig,
    steps: &[Pack],
    resume: Option<&TrainState>,
    mut each: impl FnMut(&StepReport, &Trainer<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut trainer = Trainer::new(llama, config.clone())?;
    if let Some(state) = resume {
        trainer.restore(state)?;
    }
    for pack in steps.iter().skip(trainer.steps_done() as usize) {
        let report = trainer.step(std::slice::from_ref(pack))?;
        each(&report, &trainer)?;
    }
    Ok(())
}

/// Steps with rising learning rate, of `total`; at least one step has the full rate.
pub fn warmup_steps(total: usize, share: f64) -> usize {
    ((total as f64 * share).round() as usize).min(total.saturating_sub(1))
}

/// All trained parameters as one tensor: a state is read back by the same trainer only.
const FLAT: &str = "trained";

/// Writes the state in the middle of a run. `notes` are compared when it is read again.
pub fn save_state(
    path: &Path,
    base: &str,
    state: TrainState,
    notes: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let flat = (FLAT.to_string(), vec![state.params.len()], state.params.clone());
    let mut checkpoint = Checkpoint::of_run(base.into(), vec![flat], state);
    checkpoint.notes = notes.clone();
    checkpoint.save(path)
}

/// Reads a state that [`save_state`] wrote; None if it belongs to other settings or data.
pub fn load_state(
    path: &Path,
    base: &str,
    config: &TrainConfig,
    notes: &BTreeMap<String, String>,
) -> Result<Option<TrainState>, CheckpointError> {
    let found = Checkpoint::load(path, base)?;
    let state = found.train_state().filter(|state| state.config == *config);
    Ok(state.filter(|_| found.notes == *notes))
}
