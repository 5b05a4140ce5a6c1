//! Mutations of what a driver sends: each command of a scenario left out, moved or changed, one at a
//! time, to see whether the scenario fails.
//!
//! The SMMUs are audited whenever the driver shows commands, and at the end of each step. On
//! [`UNHELPFUL`](crate::backend::UNHELPFUL) everything is cached that could be. So a mutation that
//! neither the scenario nor an audit notices lets no device reach anything stale, at no moment at which
//! the driver counts on a command. It is harmless there, and [`Harmless`] says why.

mod mutation;
mod site;
mod table;
mod tamper;
mod trial;
mod verdict;

pub use mutation::{Mutation, NoSuchMutation};
pub use site::{Site, name_of};
pub use table::{Count, Table};
pub use trial::{NoMutants, mutants, repeats, sites};
pub use verdict::{Harmless, Mutant, Verdict};
