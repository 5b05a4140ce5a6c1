//! The harness as a library.
