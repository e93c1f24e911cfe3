//! The `marmot` program.

use std::ffi::OsStr;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next();
    let first = arguments.next();
    // The supervisor of a replica must come before any thread.
    if first.as_deref() == Some(OsStr::new(marmot::server::SHIM)) {
        return marmot_engine::shim::main(arguments);
    }
    marmot::cli::main(program.into_iter().chain(first).chain(arguments))
}
