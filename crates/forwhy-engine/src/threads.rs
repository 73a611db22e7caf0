//! A fixed number of threads. Work is cut into parts whose borders do not depend on that number, and
//! sums over parts are taken in order, so that results do not depend on it either.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::EngineError;

/// Rows of one part of a row-wise operation.
pub(crate) const PART_ROWS: usize = 32;

/// The threads of one model.
#[derive(Clone)]
pub(crate) struct Threads(Arc<rayon::ThreadPool>);

impl Threads {
    pub(crate) fn new(threads: usize) -> Result<Self, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|i| format!("engine-{i}"))
            .build();
        let fail = |e: rayon::ThreadPoolBuildError| EngineError::Threads {
            threads,
            reason: e.to_string(),
        };
        pool.map(|pool| Threads(Arc::new(pool))).map_err(fail)
    }

    /// Runs `work` so that the parallel loops inside it use these threads.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.current_num_threads()
    }
}

/// Memory of each thread of a pool, kept from one parallel loop to the next.
#[derive(Default)]
pub(crate) struct PerThread(Vec<Mutex<Vec<f32>>>);

impl PerThread {
    /// Makes room for `len` numbers for each thread of the pool that it is called in.
    pub(crate) fn reserve(&mut self, len: usize) {
        let threads = self.0.len().max(rayon::current_num_threads());
        self.0.resize_with(threads, Mutex::default);
        for part in &mut self.0 {
            let part = part.get_mut().unwrap_or_else(PoisonError::into_inner);
            part.resize(part.len().max(len), 0.0);
        }
    }

    /// Runs `work`, which does not call this again, on the memory of the thread that it is called on.
    /// What stands there is arbitrary.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut [f32]) -> T) -> T {
        let mine = &self.0[rayon::current_thread_index().unwrap_or(0)];
        work(&mut mine.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
