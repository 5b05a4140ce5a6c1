//! Faults that a test injects into a modelled SMMU.

use smmu_types::StreamId;

/// A fault that stays active until [`Model::mend`](crate::Model::mend) removes it or its count
/// ends.
///
/// Of two faults of one kind the first one injected counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InjectedFault {
    /// The SMMU consumes no command. Writes of `PROD` work as before.
    CommandQueueStuck,
    /// The SMMU carries out `per_look` commands at each read of `CONS`, instead of
    /// [`Profile::consume_per_poll`](crate::Profile::consume_per_poll).
    CommandQueueSlow {
        /// Commands; 0 means none.
        per_look: u32,
    },
    /// The SMMU carries out `after` commands, and refuses the next one with `CERROR_ILL`, once.
    RefuseCommand {
        /// Commands that the SMMU still carries out.
        after: u32,
    },
    /// The next `times` fetches of a command abort, each with `CERROR_ABT`.
    FetchAbort {
        /// Number of aborts.
        times: u32,
    },
    /// The device does not answer `ATC_INV` of this stream. The next `CMD_SYNC` stops the queue
    /// with `CERROR_ATC_INV_SYNC`. The SMMU carries it out after the driver acknowledges the
    /// error.
    AtcTimeout {
        /// The stream.
        stream: StreamId,
    },
    /// The MSI of a `CMD_SYNC` never arrives. The `CMD_SYNC` completes, and `GERROR` shows no
    /// error.
    MsiLost,
    /// Writes of event records abort.
    EventQueueAbort,
    /// Writes of page requests abort.
    PriQueueAbort,
}
