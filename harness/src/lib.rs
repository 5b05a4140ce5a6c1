//! The harness: the command line, and the backends that scenarios run on.

mod alloc;
pub mod backend;
pub mod cli;
pub mod conform;
pub mod explore;
pub mod mutate;
pub mod scenario_files;
pub mod view;

// The Rust of the book in `docs/` is compiled and run. `tests/book.rs` demands a line for each page
// that has some.
#[cfg(doctest)]
#[doc = include_str!("../../docs/every-kind-of-attach.md")]
mod every_kind_of_attach {}
#[cfg(doctest)]
#[doc = include_str!("../../docs/take-only-the-codecs.md")]
mod take_only_the_codecs {}
#[cfg(doctest)]
#[doc = include_str!("../../docs/take-only-the-queue.md")]
mod take_only_the_queue {}
#[cfg(doctest)]
#[doc = include_str!("../../docs/take-only-the-tags-and-arrays.md")]
mod take_only_the_tags_and_arrays {}
#[cfg(doctest)]
#[doc = include_str!("../../docs/write-a-backend.md")]
mod write_a_backend {}
