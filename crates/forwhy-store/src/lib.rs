//! Files that survive: atomic write, locks that name their holder, checksummed segments.
