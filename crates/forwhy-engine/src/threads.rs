//! A fixed number of threads. Work is cut into parts whose borders do not depend on that number, and
//! sums over parts are taken in order, so that results do not depend on it either.

use std::sync::Arc;

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
