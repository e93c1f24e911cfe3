//! Bytes of a WebSocket, split in any way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marmot_gateway::properties::TARGETS;

fuzz_target!(|bytes: &[u8]| {
    let target = TARGETS.iter().find(|(name, _)| *name == "frames");
    target.expect("a target of this name").1(bytes);
});
