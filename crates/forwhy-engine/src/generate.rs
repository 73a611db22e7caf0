//! Sampling replies for several prompts at once.
//!
//! 1. Each distinct prompt is computed once; its last row gives the first token's logits.
//! 2. Each job draws from its own random stream, named by its seed.
//! 3. Jobs that go on are decoded together ([`crate::decode`]); those that ended drop out.

use std::collections::BTreeMap;
use std::ops::Range;

use forwhy_core::model::{Ended, Sampling};
use forwhy_core::seed::Stream;
use rayon::prelude::*;

use crate::decode::{self, Cache, Cursor};
pub use crate::decode_weights::DecodeWeights;
use crate::error::EngineError;
use crate::llama::Llama;
use crate::pack::Pack;
use crate::profile::{Part, span};
use crate::sample::{Choice, choose};
use crate::tree::Tree;

/// Rows of prompts computed in one pass.
const PREFILL_ROWS: usize = 4096;

/// One reply to write.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Token ids so far; not empty.
    pub prompt: &'a [u32],
    /// How to sample; its `stop` texts are the caller's business.
    pub sampling: &'a Sampling,
}

/// A reply, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The sampled tokens, without the end token.
    pub ids: Vec<u32>,
    /// Log-probability at temperature 1 of each sampled token, the end token's last.
    pub logprobs: Vec<f32>,
    /// `Complete` by the end token or by `stop`, else `Truncated`.
    pub ended: Ended,
}

/// A job under way.
struct Writing<'a> {
    /// Place of the job in the request.
    index: usize,
    job: &'a Job<'a>,
    prompt: usize,
    stream: Stream,
    own: Cache,
    written: Written,
    done: bool,
}

impl Llama {
    /// Writes a reply for each job. A reply ends with one of the tokens `ends`, when `stop(job, ids)` says so
    /// after a token, or after `max_tokens`.
    pub fn generate(
        &mut self,
        jobs: &[Job],
        ends: &[u32],
        stop: &(dyn Fn(usize, &[u32]) -> bool + Sync),
    ) -> Result<Vec<Written>, EngineError> {
        for job in jobs {
            let tokens = job.prompt.len() + job.sampling.max_tokens;
            if tokens > self.shape.max_positions {
                return Err(EngineError::TooLong { tokens, limit: self.shape.max_positions });
            }
        }
        let mut prompts: BTreeMap<&[u32], usize> = BTreeMap::new();
        jobs.iter().for_each(|job| {
            let next = prompts.len();
            prompts.entry(job.prompt).or_insert(next);
        });
        let mut ordered: Vec<&[u32]> = vec![&[]; prompts.len()];
        prompts.iter().for_each(|(ids, at)| ordered[*at] = ids);
        self.check_prompts(&ordered)?;
        let written = self.in_pool(|model| model.write(jobs, &prompts, &ordered, ends, stop))?;
        Ok(written.into_iter().map(|w| w.written).collect())
    }

    fn check_prompts(&self, prompts: &[&[u32]]) -> Result<(), EngineError> {
        prompts.iter().try_for_each(|ids| {
            let mut pack = Pack::new();
            pack.push_segment(ids.to_vec(), None);
            pack.resolve(&self.shape).map(|_| ())
        })
    }

    fn write<'a>(
        &mut self,
        jobs: &'a [Job<'a>],
        places: &BTreeMap<&[u32], usize>,
        prompts: &[&[u32]],
        ends: &[u32],
        stop: &(dyn Fn(usize, &[u32]) -> bool + Sync),
    ) -> Result<Vec<Writing<'a>>, EngineError> {
        let (caches, first) = self.read_prompts(prompts)?;
        let start = |(index, job): (usize, &'a Job<'a>)| Writing {
            index,
            job,
            prompt: places[job.prompt],
            stream: Stream::from_number(job.sampling.seed),
            own: Cache::new(&self.shape),
            written: Written { ids: Vec::new(), logprobs: Vec::new(), ended: Ended::Truncated },
            done: job.sampling.max_tokens == 0,
        };
        let mut all: Vec<Writing> = jobs.iter().enumerate().map(start).collect();
        // jobs with the same prompt side by side: its cache is read while it is near
        all.sort_by_key(|w| (w.prompt, w.index));
        let mut logits: Vec<f32> =
            all.iter().filter(|w| !w.done).flat_map(|w| first[w.prompt].iter().copied()).collect();
        loop {
            check_finite(&logits)?;
            let vocab = self.shape.vocab;
            let open: Vec<_> = all.iter_mut().filter(|w| !w.done).collect();
            let drawn = open.into_par_iter().zip(logits.par_chunks(vocab));
            span(Part::Sampling, || {
                drawn.for_each(|(writing, logits)| writing.take(logits, ends, stop));
            });
            let mut cursors: Vec<Cursor> =
                all.iter_mut().filter(|w| !w.done).map(|w| w.cursor(&caches)).collect();
            if cursors.is_empty() {
                all.sort_by_key(|w| w.index);
                return Ok(all);
            }
            logits = decode::step(self, &mut cursors);
        }
    }

    /// Caches of the prompts, and the logits behind each.
    pub(crate) fn read_prompts(
        &mut self,
        prompts: &[&[u32]],
    ) -> Result<(Vec<Cache>, Vec<Vec<f32>>), EngineError> {
        let shape = self.shape.clone();
        let (mut caches, mut logits) = (Vec::new(), Vec::new());
        let mut rest = prompts;
        while !rest.is_empty() {
            let mut total = 0;
            let fits = rest.iter().take_while(|ids| {
                total += ids.len();
                total <= PREFILL_ROWS
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            rest = later;
            let tree = Tree::new(now);
            let rows = tree.pack.resolve(&shape)?;
            let paths: Vec<Vec<Range<usize>>> = (0..now.len())
                .map(|i| tree.path(i).iter().map(|s| rows.spans[*s].rows.clone()).collect())
                .collect();
            let from = caches.len();
            caches.extend(now.iter().map(|_| Cache::new(&shape)));
            let last: Vec<usize> =
                paths.iter().filter_map(|path| path.last().map(|rows| rows.end - 1)).collect();
            let width = shape.qkv_width();
            logits.extend(self.prefill(rows, &last, &mut |block, qkv| {
                for (cache, path) in caches[from..].iter_mut().zip(&paths) {
                    for rows in path {
                        cache.push(&shape, block, &qkv[rows.start * width..rows.end * width]);
                    }
                }
            }));
        }
        Ok((caches, logits))
    }
}

impl Writing<'_> {
    /// Draws the next token and sees whether the reply ends.
    fn take(
        &mut self,
        logits: &[f32],
        ends: &[u32],
        stop: &(dyn Fn(usize, &[u32]) -> bool + Sync),
    ) {
        let Choice { id, logprob } = choose(logits, self.job.sampling, &mut self.stream);
        self.written.logprobs.push(logprob);
        let ended = ends.contains(&id);
        if !ended {
            self.written.ids.push(id);
        }
        if ended || stop(self.index, &self.written.ids) {
            self.written.ended = Ended::Complete;
            self.done = true;
        }
        self.done |= self.written.logprobs.len() == self.job.sampling.max_tokens;
    }

    fn cursor<'c>(&'c mut self, caches: &'c [Cache]) -> Cursor<'c> {
        let id = self.written.ids.last().copied();
        Cursor {
            id: id.unwrap_or_else(|| unreachable!("an open job has drawn a token")),
            position: (self.job.prompt.len() + self.written.ids.len() - 1) as u32,
            prompt: &caches[self.prompt],
            own: &mut self.own,
        }
    }
}

fn check_finite(logits: &[f32]) -> Result<(), EngineError> {
    match logits.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(EngineError::NotFinite { what: "a logit".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buf;
    use crate::checks::tiny_shape;
    use crate::kernels::Kernels;
    use crate::llama::Scope;
    use crate::trainer::{TrainConfig, Trainer};

    const END: u32 = 3;

    fn model() -> Llama {
        let mut model = Llama::random(tiny_shape(), 7, 1).unwrap();
        model.weights.iter_mut().for_each(|w| *w *= 3.0);
        model
    }

    fn prompts() -> [Vec<u32>; 3] {
        [vec![5; 7], (10..150).collect(), vec![9]]
    }

    fn write(model: &mut Llama, jobs: &[Job]) -> Vec<Written> {
        model.generate(jobs, &[END], &|_, _| false).unwrap()
    }

    #[test]
    fn cached_decoding_gives_the_log_probabilities_of_a_plain_pass() {
        let mut model = model();
        let sampling = Sampling { max_tokens: 20, seed: 4, ..Sampling::default() };
        for prompt in prompts() {
            let job = Job { prompt: &prompt, sampling: &sampling };
            let written = write(&mut model, &[job]).remove(0);
            let mut ids = [&prompt[..], &written.ids].concat();
            if written.ended == Ended::Complete {
                ids.push(END);
            }
            let mut pack = Pack::new();
            let trained: Vec<bool> = (0..ids.len()).map(|i| i >= prompt.len()).collect();
            pack.push_sequence(&ids, &trained);
            let plain = model.logprobs(&[pack]).unwrap().remove(0);
            assert_eq!(plain.len(), written.logprobs.len());
            let worst = plain.iter().zip(&written.logprobs).map(|(a, b)| (a - b).abs());
            assert!(worst.fold(0f32, f32::max) < 1e-4);
        }
    }

    /// Largest difference of the log-probabilities that a reply gets in decoding from those of a plain
    /// pass over the same tokens.
    fn off(model: &mut Llama, prompt: &[u32]) -> f32 {
        let sampling = Sampling { max_tokens: 20, seed: 4, ..Sampling::default() };
        let written = write(model, &[Job { prompt, sampling: &sampling }]).remove(0);
        let ids = [prompt, &written.ids].concat();
        let mut pack = Pack::new();
        let trained: Vec<bool> = (0..ids.len()).map(|i| i >= prompt.len()).collect();
        pack.push_sequence(&ids, &trained);
        let plain = model.logprobs(&[pack]).unwrap().remove(0);
        let off = plain.iter().zip(&written.logprobs).map(|(a, b)| (a - b).abs());
        off.fold(0f32, f32::max)
    }

    #[test]
    fn decoding_in_8_bits_stays_close_to_f32_and_is_not_f32() {
        let mut model = model();
        model.set_decode_weights(DecodeWeights::Q8);
        let worst = prompts().iter().map(|prompt| off(&mut model, prompt)).fold(0f32, f32::max);
        assert!(worst > 1e-5 && worst < 0.15, "log-probabilities are off by up to {worst}");
        let (eight, f32s) = (model.ready_decode_weights(), 4 * model.weights.len());
        assert!(eight > 0 && eight < f32s * 3 / 10, "{eight} bytes beside {f32s}");
    }

    #[test]
    fn products_in_bf16_decode_from_panels_close_to_a_plain_pass() {
        let mut model = model();
        model.set_kernels(Kernels::Portable).unwrap();
        let worst = prompts().iter().map(|prompt| off(&mut model, prompt)).fold(0f32, f32::max);
        assert!(worst > 1e-6 && worst < 0.1, "log-probabilities are off by up to {worst}");
        assert!(model.ready_decode_weights() > 0);
        model.set_kernels(Kernels::F32).unwrap();
        assert_eq!(model.ready_decode_weights(), 0);
    }

    #[test]
    fn converted_weights_follow_the_weights_that_training_changes() {
        let kinds = [
            (Kernels::F32, DecodeWeights::Q8),
            (Kernels::F32, DecodeWeights::Bf16),
            (Kernels::Portable, DecodeWeights::Own),
        ];
        for (kernels, weights) in kinds {
            let set = |model: &mut Llama| {
                model.set_kernels(kernels).unwrap();
                model.set_decode_weights(weights);
            };
            let mut model = model();
            set(&mut model);
            let sampling = Sampling { max_tokens: 4, temperature: 0.0, ..Sampling::default() };
            let job = Job { prompt: &[5, 6, 7], sampling: &sampling };
            let before = write(&mut model, std::slice::from_ref(&job));
            let mut pack = Pack::new();
            pack.push_sequence(&[5, 6, 7, 8], &[true; 4]);
            for scope in [Scope::All, Scope::Top(1), Scope::Lora { rank: 2, alpha: 4.0 }] {
                let rates = TrainConfig { learning_rate: 1e-2, ..TrainConfig::default() };
                let config = TrainConfig { scope, total_steps: 4, ..rates };
                let mut trainer = Trainer::new(&mut model, config).unwrap();
                for _ in 0..2 {
                    trainer.step(std::slice::from_ref(&pack)).unwrap();
                }
                let after = write(&mut model, std::slice::from_ref(&job));
                let mut fresh = Llama::new(tiny_shape(), Buf::copied(model.weights()), 1).unwrap();
                set(&mut fresh);
                let fresh = write(&mut fresh, std::slice::from_ref(&job));
                assert_eq!(after, fresh, "{kernels:?} {weights:?} {scope:?}");
                assert_ne!(after[0].logprobs, before[0].logprobs);
            }
        }
    }

    #[test]
    fn prompts_with_a_common_start_are_read_as_if_alone() {
        let mut model = model();
        let start: Vec<u32> = (20..90).collect();
        let prompts: Vec<Vec<u32>> =
            [&[7, 8, 9][..], &[11], &[7, 8]].map(|end| [&start[..], end].concat()).into();
        let refs: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let rows = Tree::new(&refs).pack.rows();
        assert_eq!(rows, start.len() + 3 + 1, "the start and the two ends that differ, once");
        let sampling = Sampling { max_tokens: 6, seed: 3, ..Sampling::default() };
        let jobs: Vec<Job> =
            refs.iter().map(|prompt| Job { prompt, sampling: &sampling }).collect();
        let together = write(&mut model, &jobs);
        for (job, reply) in jobs.iter().zip(&together) {
            let alone = write(&mut model, std::slice::from_ref(job)).remove(0);
            assert_eq!(alone.ids, reply.ids);
            let apart = alone.logprobs.iter().zip(&reply.logprobs).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0f32, f32::max) < 1e-4);
        }
    }

    #[test]
    fn a_reply_does_not_depend_on_its_batch_mates_and_follows_its_seed() {
        for weights in [DecodeWeights::Own, DecodeWeights::Bf16, DecodeWeights::Q8] {
            let mut model = model();
            model.set_decode_weights(weights);
            check_batch_mates(model);
        }
    }

    fn check_batch_mates(mut model: Llama) {
        let prompts = prompts();
        let with_seed = |seed| Sampling { max_tokens: 12, seed, ..Sampling::default() };
        let (one, two) = (with_seed(1), with_seed(2));
        let job = |prompt: usize, sampling| Job { prompt: &prompts[prompt], sampling };
        let jobs = [job(0, &one), job(1, &one), job(1, &two), job(2, &two), job(1, &one)];
        let together = write(&mut model, &jobs);
        for (job, reply) in jobs.iter().zip(&together) {
            assert_eq!(write(&mut model, std::slice::from_ref(job))[0].ids, reply.ids);
        }
        assert_eq!(together[1], together[4]);
        assert_ne!(together[1].ids, together[2].ids);
    }

    #[test]
    fn replies_end_by_token_by_stop_or_by_limit() {
        let mut model = model();
        let sampling = Sampling { max_tokens: 400, ..Sampling::default() };
        let job = Job { prompt: &[5, 6], sampling: &sampling };
        let by_token = write(&mut model, std::slice::from_ref(&job)).remove(0);
        assert_eq!(by_token.ended, Ended::Complete, "1 of 160 tokens ends it");
        assert!(!by_token.ids.contains(&END));
        assert_eq!(by_token.logprobs.len(), by_token.ids.len() + 1);
        let stop = |_: usize, ids: &[u32]| ids.len() == 2;
        let by_stop = model.generate(std::slice::from_ref(&job), &[END], &stop).unwrap().remove(0);
        assert_eq!((by_stop.ended, by_stop.ids.len()), (Ended::Complete, 2));
        let short = Sampling { max_tokens: 2, ..Sampling::default() };
        let cut = write(&mut model, &[Job { prompt: &[5, 6], sampling: &short }]).remove(0);
        assert_eq!((cut.ended, cut.ids.len()), (Ended::Truncated, 2));
        let long = Sampling { max_tokens: 1023, ..Sampling::default() };
        let job = Job { prompt: &[5, 6], sampling: &long };
        assert!(model.generate(&[job], &[END], &stop).is_err(), "1025 of 1024 positions");
        let empty = Job { prompt: &[], sampling: &short };
        assert!(model.generate(&[empty], &[END], &stop).is_err());
    }
}
