//! The promises of a command queue, tested against a device that misbehaves on request.
#![cfg(feature = "fake")]

#[cfg(test)]
mod coherency;
#[cfg(test)]
mod common;
#[cfg(test)]
mod completion;
#[cfg(test)]
mod ecmdq;
#[cfg(test)]
mod encoded;
mod failures;
#[cfg(test)]
mod fairness;
mod group;
#[cfg(test)]
mod handler;
#[cfg(test)]
mod port;
#[cfg(test)]
mod repeat;
mod ring;
#[cfg(test)]
mod small;
#[cfg(test)]
mod sync_every;
mod threads;
