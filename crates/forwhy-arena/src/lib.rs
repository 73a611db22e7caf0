//! Puts a model in a situation and records what it did: world, action grammar, rollout, oracle.
