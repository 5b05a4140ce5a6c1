//! The guest policy of nested translation, from outside.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod alone;
mod checks;
mod commands;
mod corpus;
mod entries;
mod events;
mod registers;
mod streams;
mod whatever;
