//! What a command queue promises, against a device that misbehaves on request.
#![cfg(feature = "fake")]

#[cfg(test)]
mod common;
mod failures;
mod group;
mod ring;
mod threads;
