//! Mutations of what a driver sends: each command of a scenario left out, moved or changed, one at a
//! time, to see whether the scenario fails.
//!
//! The SMMUs are audited at the end of each step, and at the next four writes of `CMDQ_PROD` behind the
//! mutation. On [`UNHELPFUL`](crate::backend::UNHELPFUL) each audit fetches the configuration of every
//! device and every translation of the tables. So at those moments a mutation that neither the scenario
//! nor an audit notices lets no device reach anything stale. It is harmless there, and [`Harmless`] says
//! why.

mod forgetful;
mod mutation;
mod site;
mod table;
mod tamper;
mod trial;
mod verdict;

pub use forgetful::{ForgetfulRun, StoreMutant, StoreVerdict, run_forgetful, store_mutants};
pub use mutation::{Mutation, NoSuchMutation};
pub use site::{Site, name_of};
pub use table::{Count, StoreCount, StoreTable, Table};
pub use trial::{NoMutants, mutants, repeats, sites};
pub use verdict::{Harmless, Mutant, Verdict};
