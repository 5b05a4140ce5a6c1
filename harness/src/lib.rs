//! The harness: the command line, and the backends that scenarios run on.

mod alloc;
pub mod backend;
pub mod cli;
pub mod explore;
pub mod scenario_files;
pub mod view;
