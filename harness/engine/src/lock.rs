//! The lock and the publication of a run: those of a host with `std`, those of a board without.
//!
//! No interrupt handler takes these locks. The engine installs none, and a machine's own handlers
//! only count what [`Machine::take_interrupts`](crate::machine::Machine::take_interrupts) reports.
//! So a lock that spins, and masks no interrupt, cannot deadlock on a board.

/// The lock of everything that the engine shares between CPUs, and of the driver that it runs.
#[cfg(feature = "std")]
pub(crate) type Lock = parking_lot::RawMutex;
/// The lock of everything that the engine shares between CPUs, and of the driver that it runs.
#[cfg(not(feature = "std"))]
pub(crate) type Lock = spin::Mutex<()>;

pub(crate) type Mutex<T> = lock_api::Mutex<Lock, T>;
pub(crate) type MutexGuard<'a, T> = lock_api::MutexGuard<'a, Lock, T>;

/// How arrays and queues reach their readers. No reader takes a lock.
#[cfg(feature = "std")]
pub(crate) type Published<T> = smmu_driver::smmu_invs::ArcSwapCell<T>;
/// How arrays and queues reach their readers. A reader takes no lock, unless its CPU has no slot
/// left.
#[cfg(not(feature = "std"))]
pub(crate) type Published<T> = smmu_driver::smmu_invs::HazardCell<board::Cpus, Lock, T>;

#[cfg(not(feature = "std"))]
pub(crate) mod board {
    //! The hazard slots of a board's CPUs.

    use smmu_driver::smmu_invs::{CpuSlots, HazardSlots};
    use spin::Once;

    /// More CPUs share the slots: see [`HazardSlots::cpu`].
    const CPUS: usize = 8;

    static NUMBER: Once<fn() -> usize> = Once::new();

    /// Lets readers take the slots of their own CPU from now on. All machines of a program run on
    /// the same CPUs, so the first call counts.
    pub(crate) fn number_cpus(number: fn() -> usize) {
        NUMBER.call_once(|| number);
    }

    /// The CPUs of the board.
    pub struct Cpus;

    impl HazardSlots for Cpus {
        fn slots() -> &'static [CpuSlots] {
            static SLOTS: [CpuSlots; CPUS] = [const { CpuSlots::new() }; CPUS];
            &SLOTS
        }
        fn cpu() -> usize {
            NUMBER.get().map_or(0, |number| number())
        }
    }
}
