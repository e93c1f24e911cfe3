//! The supervisor of a replica, as the tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    marmot_engine::shim::main(std::env::args_os().skip(1))
}
