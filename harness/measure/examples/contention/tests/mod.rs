//! Tests of the machine, of the strategies on it, and of what documents say by the tables.

mod machine;
mod options;
mod strategies;
mod tables;
