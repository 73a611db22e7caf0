//! Activations at the border between frozen lower blocks and trained upper ones, kept by pack. While
//! the trunk stays as it is, a pack that comes again (the same evaluation after each arm, a second
//! epoch) skips it. Several models with the same trunk may share one cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A cache of trunk activations, bounded in bytes.
pub struct TrunkCache {
    blocks: usize,
    trunk: [u8; 32],
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    rows: HashMap<[u8; 32], Arc<[f32]>>,
    stats: TrunkStats,
}

/// How a cache fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrunkStats {
    /// Packs found.
    pub hits: u64,
    /// Packs computed.
    pub misses: u64,
    /// Packs not kept because the cache was full.
    pub refused: u64,
    /// Bytes in use.
    pub bytes: usize,
}

impl TrunkCache {
    /// An empty cache for the trunk with hash `trunk` and `blocks` blocks; see
    /// [`crate::llama::Llama::trunk_cache`].
    pub(crate) fn new(blocks: usize, trunk: [u8; 32], max_bytes: usize) -> Self {
        TrunkCache { blocks, trunk, max_bytes, kept: Mutex::default() }
    }

    /// Blocks of the trunk.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Hash of the trunk's weights.
    pub(crate) fn trunk(&self) -> [u8; 32] {
        self.trunk
    }

    /// How it fares. `refused` above 0 means that it is full: give it more bytes.
    pub fn stats(&self) -> TrunkStats {
        self.lock().stats
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows[r,h] of a pack.
    pub(crate) fn get(&self, pack: &[u8; 32], r: usize) -> Option<Arc<[f32]>> {
        let mut kept = self.lock();
        let rows =
            kept.rows.get(pack).filter(|rows| r > 0 && rows.len().is_multiple_of(r)).cloned();
        match rows {
            Some(_) => kept.stats.hits += 1,
            None => kept.stats.misses += 1,
        }
        rows
    }

    /// Keeps the rows of a pack, if there is room.
    pub(crate) fn put(&self, pack: [u8; 32], rows: &[f32]) {
        let mut kept = self.lock();
        let bytes = size_of_val(rows);
        if kept.stats.bytes + bytes > self.max_bytes {
            kept.stats.refused += 1;
        } else if kept.rows.insert(pack, rows.into()).is_none() {
            kept.stats.bytes += bytes;
        }
    }
}
