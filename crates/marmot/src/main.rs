//! The `marmot` program.
fn main() {}
