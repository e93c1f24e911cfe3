//! The supervisor of one replica: a small process that outlives the server.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the supervisor. `args`: the replica's directory. A program offers this as a hidden sub-command.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
