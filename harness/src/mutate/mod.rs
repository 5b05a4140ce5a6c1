//! Mutations of what a driver sends: each command of a scenario left out, moved or changed, one at a
//! time, to see whether the scenario fails.
//!
//! The SMMUs are audited at the end of each step, and at the next four writes of `CMDQ_PROD` behind the
//! mutation. On [`UNHELPFUL`](crate::backend::UNHELPFUL) each audit fetches the configuration of every
//! device and every translation of the tables. So at those moments a mutation that neither the scenario
//! nor an audit notices lets no device reach anything stale. It is harmless there, and [`Harmless`] says
//! why.

mod mutation;
mod publications;
mod site;
mod table;
mod tamper;
mod trial;
mod verdict;

pub use mutation::{Mutation, NoSuchMutation};
pub use publications::without_publication;
pub use site::{Site, name_of};
pub use table::{Count, Table};
pub use trial::{NoMutants, mutants, repeats, sites};
pub use verdict::{Harmless, Mutant, Verdict};
