//! End to end, black box: the real program, real repositories, real processes, over HTTP.

mod chaos;
mod contract;
mod faults;
mod harness;
mod languages;
mod opening;
mod people;
mod refusals;
mod rollout;
mod story;
