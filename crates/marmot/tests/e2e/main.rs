//! End to end, black box: the real program, real repositories, real processes, over HTTP.

#[path = "../../../marmot-engine/tests/support/buildpacks.rs"]
mod buildpacks;
mod canaries;
mod chaos;
mod contract;
mod disk;
mod faults;
mod frameworks;
mod harness;
mod hosts;
mod images;
mod languages;
mod limits;
mod opening;
mod people;
#[path = "../../../marmot-engine/tests/support/podman.rs"]
mod podman;
mod previews;
mod refusals;
mod rollout;
mod story;
mod thumbnails;
mod traces;
