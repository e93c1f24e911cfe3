//! Marmot: the platform. What touches the world is here: configuration, database, API, pages, command line.

pub mod acme;
pub mod api;
mod causes;
pub mod cli;
pub mod config;
pub mod cookie;
pub mod db;
pub mod demo;
mod hex;
pub mod history;
pub mod identity_keys;
pub mod lifecycle;
pub mod model;
pub mod oidc;
pub mod opening;
mod private_file;
pub mod scaling;
pub mod server;
pub mod service;
mod thumbnails;
pub mod traces;
pub mod traffic;
pub mod vault;
pub mod web;

#[cfg(test)]
mod testing;
