//! Hosts, queries of links, and what proxies say of where a request comes from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marmot_gateway::properties::TARGETS;

fuzz_target!(|bytes: &[u8]| {
    let target = TARGETS.iter().find(|(name, _)| *name == "address");
    target.expect("a target of this name").1(bytes);
});
