//! The conversation, with a target that a thread plays.
