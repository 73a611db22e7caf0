//! The forwhy command, and a facade that re-exports the libraries.
