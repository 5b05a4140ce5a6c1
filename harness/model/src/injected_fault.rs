//! What can be made to go wrong in a modelled SMMU.

use smmu_types::StreamId;

/// Something that goes wrong, by name, until it is taken back.
///
/// Where two faults of one kind are injected, the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InjectedFault {
    /// Commands are accepted and never consumed.
    CommandQueueStuck,
    /// Each look at the consumer carries out so many commands, instead of [`Profile::consume_per_poll`].
    CommandQueueSlow {
        /// Commands; 0 means none.
        per_look: u32,
    },
    /// The command after the next `after` ones is refused with `CERROR_ILL`, once.
    RefuseCommand {
        /// Commands that are still carried out.
        after: u32,
    },
    /// The next `times` fetches of a command abort, with `CERROR_ABT` each.
    FetchAbort {
        /// How often.
        times: u32,
    },
    /// The device does not answer ATC invalidations of this stream. The `CMD_SYNC` behind one stops the queue with
    /// `CERROR_ATC_INV_SYNC`, and is carried out when that is acknowledged.
    AtcTimeout {
        /// The stream.
        stream: StreamId,
    },
    /// The MSI of a `CMD_SYNC` never arrives. Nothing else is amiss, and no error is reported.
    MsiLost,
    /// Writes of event records abort.
    EventQueueAbort,
}
