//! The `forwhy` command.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done; 1 something failed on our
//! side or the machine's; 2 the user's input is at fault and nothing was changed; 130 stopped on
//! request, and the same command goes on from there.

mod clock;
mod commands;
mod progress;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    match commands::dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => commands::explain(&error),
    }
}
