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

#[cfg(test)]
mod tests {
    use super::*;
    use forwhy_engine::llama::Scope;
    use forwhy_engine::local::LocalModel;
    use forwhy_engine::weights;

    const STEPS: usize = 4;

    fn model() -> LocalModel {
        let dir = tempfile::tempdir().unwrap();
        forwhy_testkit::tiny_model::tiny_model_dir(dir.path(), 1).unwrap();
        LocalModel::load(weights::open(dir.path()).unwrap(), 1).unwrap()
    }

    fn steps() -> Vec<Pack> {
        let step = |i: u32| {
            let ids: Vec<u32> = (0..20).map(|t| (t * 7 + i * 31) % 256).collect();
            let mut pack = Pack::new();
            pack.push_sequence(&ids, &vec![true; ids.len()]);
            pack
        };
        (0..STEPS as u32).map(step).collect()
    }

    fn config() -> TrainConfig {
        let scope = Scope::Top(1);
        TrainConfig { scope, learning_rate: 1e-2, total_steps: STEPS, ..TrainConfig::default() }
    }

    fn notes(unit: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("unit".to_string(), unit.to_string())])
    }

    /// Losses and weights after a run that saves its state after step `save` and goes on from
    /// `resume`.
    fn trained(
        model: &LocalModel,
        resume: Option<&TrainState>,
        save: u64,
    ) -> (Vec<f64>, TrainState, Vec<f32>) {
        let (mut losses, mut saved) = (Vec::new(), None);
        let lent = model.with_llama(|llama| {
            run::<EngineError>(llama, &config(), &steps(), resume, |report, trainer| {
                losses.push(report.loss);
                if report.step == save {
                    saved = Some(trainer.save());
                }
                Ok(())
            })
            .unwrap();
        });
        lent.unwrap();
        let weights = model.export_scope(Scope::Top(1)).unwrap();
        let flat = weights.into_iter().flat_map(|(_, _, values)| values).collect();
        (losses, saved.unwrap(), flat)
    }

    #[test]
    fn fault_1_a_run_that_goes_on_ends_as_one_that_never_stopped_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resume.safetensors");
        let (losses, state, whole) = trained(&model(), None, 2);
        assert_eq!(losses.len(), STEPS);
        assert!(losses.iter().all(|l| l.is_finite()));
        save_state(&path, "base", state, &notes("a")).unwrap();
        let state = load_state(&path, "base", &config(), &notes("a")).unwrap().unwrap();
        let (rest, _, resumed) = trained(&model(), Some(&state), 3);
        assert_eq!(rest, losses[2..], "only the steps that were not done");
        assert_eq!(resumed, whole);
    }

    #[test]
    fn fault_7_a_state_of_other_settings_data_or_weights_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resume.safetensors");
        let (_, state, _) = trained(&model(), None, 2);
        save_state(&path, "base", state, &notes("a")).unwrap();
        let other = TrainConfig { learning_rate: 2e-2, ..config() };
        assert!(load_state(&path, "base", &other, &notes("a")).unwrap().is_none());
        assert!(load_state(&path, "base", &config(), &notes("b")).unwrap().is_none());
        assert!(load_state(&path, "another base", &config(), &notes("a")).is_err());
    }

    #[test]
    fn an_error_after_a_step_ends_the_run_there() {
        let mut seen = 0;
        let result = model().with_llama(|llama| {
            run::<EngineError>(llama, &config(), &steps(), None, |_, _| {
                seen += 1;
                Err(EngineError::Config("stop".into()))
            })
        });
        assert!(result.unwrap().is_err());
        assert_eq!(seen, 1);
    }

    #[test]
    fn warm_up_leaves_at_least_one_full_step() {
        assert_eq!(warmup_steps(20, 0.1), 2);
        assert_eq!(warmup_steps(1, 1.0), 0);
        assert_eq!(warmup_steps(3, 1.0), 2);
        assert_eq!(warmup_steps(0, 0.5), 0);
    }
}
