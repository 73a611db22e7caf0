//! Fixtures for tests: a tiny random model, scripted worlds, redactions.
