//! The queues: rings, commands that are consumed, events that are written.

pub(crate) mod consume;
pub(crate) mod enhanced;
pub(crate) mod event_queue;
pub(crate) mod feed;
pub(crate) mod ring;
