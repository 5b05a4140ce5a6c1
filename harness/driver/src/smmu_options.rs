//! What an integrator may choose of one SMMU.

use core::time::Duration;

use smmu_attach::SmmuConfig;
use smmu_attach::faults::SieveConfig;
use smmu_cmdq::SyncBy;
use smmu_hw_mmio::{Coherency, ControlPages, ExitPolicy, Interrupts, Quirks};

use crate::platform::PickQueue;

/// What an integrator may choose of one SMMU. The defaults suit every SMMU.
#[derive(Clone, Debug)]
pub struct SmmuOptions {
    /// How long one wait may last: for a register to acknowledge, for room in a queue, for a
    /// `CMD_SYNC`. 1 s by default.
    pub timeout: Duration,
    /// log2 of the entries of the command queues; 8 by default. The driver takes less where the
    /// SMMU has less.
    pub command_queue_log2: u8,
    /// log2 of the entries of the event queue; 8 by default. The driver takes less where the SMMU
    /// has less.
    pub event_queue_log2: u8,
    /// log2 of the entries of the PRI queue; `None` by default, and the queue stays off. The driver
    /// takes less where the SMMU has less, and none where the SMMU has no PRI.
    pub pri_queue_log2: Option<u8>,
    /// How many faults can wait for an answer at a time; 64 by default. The sum of `IDR5.STALL_MAX` and
    /// of the requests that the devices have under way is enough.
    pub waiting_faults: u16,
    /// Which events are reported: all but storms and known noise.
    pub sieve: SieveConfig,
    /// How a `CMD_SYNC` completes; by default the cheapest way the SMMU has
    /// ([`QueueConfig::suited_to`](smmu_cmdq::QueueConfig::suited_to)).
    pub sync_by: Option<SyncBy>,
    /// Whether the SMMU snoops the caches, where firmware tables know it better than `IDR0.COHACC`.
    pub coherency: Option<Coherency>,
    /// Quirks that the ID registers do not tell; none by default. A firmware table tells them
    /// (`FirmwareQuirks::driver_quirks` of `smmu-hw-mmio`), or the integrator knows them.
    pub quirks: Quirks,
    /// What is known of the enhanced command queues (ECMDQ) of an old owner. By default a takeover
    /// refuses an SMMU that has some.
    pub control_pages: Option<ControlPages>,
    /// Which interrupts the SMMU raises; [`Interrupts::Polled`] by default. For MSIs,
    /// [`Interrupts::msis`] takes what [`probe`](smmu_hw_mmio::probe) says of this SMMU.
    pub interrupts: Interrupts,
    /// What transactions meet after [`Driver::shutdown`](crate::Driver::shutdown);
    /// [`ExitPolicy::Abort`] by default.
    pub exit: ExitPolicy,
    /// The stream table and the tag spaces.
    pub attach: SmmuConfig,
    /// Chooses between virtual queues; the first by default. No effect without virtual queues.
    pub pick: PickQueue,
}

impl Default for SmmuOptions {
    fn default() -> Self {
        SmmuOptions {
            timeout: Duration::from_secs(1),
            command_queue_log2: 8,
            event_queue_log2: 8,
            pri_queue_log2: None,
            waiting_faults: 64,
            sieve: SieveConfig::default(),
            sync_by: None,
            coherency: None,
            quirks: Quirks::NONE,
            control_pages: None,
            interrupts: Interrupts::Polled,
            exit: ExitPolicy::Abort,
            attach: SmmuConfig::default(),
            pick: |_| 0,
        }
    }
}
