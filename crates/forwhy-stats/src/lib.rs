//! Intervals, tests and power for rates and clustered differences.
