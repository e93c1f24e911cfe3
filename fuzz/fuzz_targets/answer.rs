//! Fields of an app's answer, and those behind its body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marmot_gateway::properties::TARGETS;

fuzz_target!(|bytes: &[u8]| {
    let target = TARGETS.iter().find(|(name, _)| *name == "answer");
    target.expect("a target of this name").1(bytes);
});
