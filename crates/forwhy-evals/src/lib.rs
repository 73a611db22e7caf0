//! Held-out evaluations: honeypot scenarios with benign twins, competence checks and the calibration set.
