//! The two interrupt handlers of an SMMU, whole.

use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use lock_api::Mutex;
use smmu_driver::{Driver, GerrorReport};
use smmu_types::seam::poll;
use smmu_types::{EventRecord, SmmuId};

use super::composition::BoardPlatform;
use super::gic::{Gic, Handler, InterruptError};
use super::irq_mutex::IrqMutex;
use crate::machine::Machine;
use crate::timer::GenericTimer;

/// Events and errors that the handlers keep for the program.
const ROOM: usize = 32;

type SharedDriver = Arc<Driver<BoardPlatform>>;

/// What the handlers have found.
#[derive(Debug)]
pub struct InterruptLog {
    found: Mutex<IrqMutex, Found>,
    events: AtomicU32,
    gerrors: AtomicU32,
}

#[derive(Debug)]
struct Found {
    events: [(SmmuId, EventRecord); ROOM],
    count: usize,
    lost: u32,
    gerror: LastGerror,
}

/// An `Option` whose `None` is zero, so the log is in `.bss` and no byte of it in the image.
#[derive(Debug)]
#[repr(u8)]
enum LastGerror {
    None = 0,
    Some(SmmuId, GerrorReport),
}

impl InterruptLog {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        let nothing = (SmmuId(0), EventRecord([0; 4]));
        InterruptLog {
            found: Mutex::new(Found {
                events: [nothing; ROOM],
                count: 0,
                lost: 0,
                gerror: LastGerror::None,
            }),
            events: AtomicU32::new(0),
            gerrors: AtomicU32::new(0),
        }
    }

    /// Interrupts of event queues, and of `GERROR`, so far.
    #[must_use]
    pub fn interrupts(&self) -> (u32, u32) {
        (self.events.load(Ordering::Relaxed), self.gerrors.load(Ordering::Relaxed))
    }

    /// Takes the oldest event.
    #[must_use]
    pub fn take_event(&self) -> Option<(SmmuId, EventRecord)> {
        let mut found = self.found.lock();
        let oldest = *found.events.get(..found.count)?.first()?;
        found.events.rotate_left(1);
        found.count -= 1;
        Some(oldest)
    }

    /// Takes the oldest event, and waits for it if need be.
    #[must_use]
    pub fn wait_for_event(&self, patience: Duration) -> Option<(SmmuId, EventRecord)> {
        poll(&GenericTimer, patience, || self.take_event()).ok()
    }

    /// Takes what the last `GERROR` interrupt was about.
    #[must_use]
    pub fn take_gerror(&self) -> Option<(SmmuId, GerrorReport)> {
        match mem::replace(&mut self.found.lock().gerror, LastGerror::None) {
            LastGerror::None => None,
            LastGerror::Some(smmu, report) => Some((smmu, report)),
        }
    }

    /// Events for which there was no room.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.found.lock().lost
    }

    /// Forgets all events.
    pub fn clear(&self) {
        let mut found = self.found.lock();
        (found.count, found.lost) = (0, 0);
    }

    /// The handler of an event queue's interrupt.
    ///
    /// It drains the queue: an edge interrupt does not come again for records that were left. A
    /// CPU that drains already gets the records; then there is nothing to do here.
    fn on_event(&self, driver: &Driver<BoardPlatform>, smmu: SmmuId) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let _ = driver.drain_events(smmu, |event| {
            let mut found = self.found.lock();
            let count = found.count;
            match found.events.get_mut(count) {
                Some(slot) => {
                    *slot = (smmu, event);
                    found.count += 1;
                }
                None => found.lost += 1,
            }
        });
    }

    /// The handler of a `GERROR` interrupt.
    ///
    /// The driver mends a stopped command queue and acknowledges the other errors. If another CPU is
    /// about to, it takes this over.
    fn on_gerror(&self, driver: &Driver<BoardPlatform>, smmu: SmmuId) {
        self.gerrors.fetch_add(1, Ordering::Relaxed);
        if let Ok(report) = driver.handle_gerror(smmu) {
            self.found.lock().gerror = LastGerror::Some(smmu, report);
        }
    }
}

impl Default for InterruptLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Connects the interrupts of all SMMUs to the handlers.
///
/// The handlers hold the driver until [`Gic::disconnect_all`].
///
/// # Errors
///
/// A line cannot be used.
pub fn connect(
    gic: &mut Gic,
    machine: &Machine<'_>,
    driver: &SharedDriver,
    log: &'static InterruptLog,
) -> Result<(), InterruptError> {
    for (number, found) in (0u16..).zip(&machine.smmus) {
        let smmu = SmmuId(number);
        let on_event = || -> Handler {
            let driver = Arc::clone(driver);
            Arc::new(move || log.on_event(&driver, smmu))
        };
        let on_gerror = || -> Handler {
            let driver = Arc::clone(driver);
            Arc::new(move || log.on_gerror(&driver, smmu))
        };
        let lines = found.interrupts;
        let events = lines.eventq.map(|line| (line, on_event()));
        let gerrors = lines.gerror.map(|line| (line, on_gerror()));
        // One line for all: both handlers look.
        let combined = lines.combined.map(|line| [(line, on_event()), (line, on_gerror())]);
        let all = events.into_iter().chain(gerrors).chain(combined.into_iter().flatten());
        for (line, handler) in all {
            gic.connect(line, handler)?;
        }
    }
    Ok(())
}
