//! Devices with ATS: their caches and switches, and a switch that goes off beside an unmap.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use smmu_attach::*;
use smmu_invs::{AtsGate, Drained};
use smmu_types::seam::{TimedOut, Wait};
use smmu_types::{SmmuId, StreamId};

use crate::hardware::{Beside, LoomSmmu, STREAMS};
use crate::models::D;
use crate::seams::{Seam, is_kept};
use crate::world::*;

/// A device's own cache and switch.
#[derive(Default)]
pub(crate) struct Atc {
    on: bool,
    /// The tables whose page is cached.
    line: Option<usize>,
}

impl Atc {
    /// `ATC_INV`. A device may leave it unanswered while its ATS is off.
    pub(crate) fn invalidate(&mut self) {
        assert!(self.on, "ATC_INV reaches a device whose ATS is off");
        if is_kept(Seam::AtcInv) {
            self.line = None;
        }
    }
}

impl LoomSmmu {
    /// The device asks for a translation, and keeps it. The SMMU refuses without `EATS`.
    fn ask(&self, stream: u32) {
        let mut caches = self.lock_caches();
        let place = stream as usize % STREAMS;
        if !caches.atcs[place].on || !self.ste(&mut caches, stream).is_some_and(has_eats) {
            return;
        }
        let Some(translation) = self.translation(&mut caches, stream, 0) else { return };
        caches.atcs[place].line = self.line(&mut caches, translation);
    }

    /// A DMA with the address that the device's cache has. The SMMU refuses without `EATS`.
    fn translated_dma(&self, stream: u32) {
        let mut caches = self.lock_caches();
        let Atc { on: true, line: Some(tables) } = caches.atcs[stream as usize % STREAMS] else {
            return;
        };
        if self.ste(&mut caches, stream).is_some_and(has_eats) {
            self.access(tables);
        }
    }

    fn atc_has(&self, tables: usize) -> bool {
        self.lock_caches().atcs.iter().any(|atc| atc.line == Some(tables))
    }

    fn is_ats_on(&self, stream: u32) -> bool {
        self.lock_caches().atcs[stream as usize % STREAMS].on
    }
}

fn has_eats([_, w1, ..]: [u64; 4]) -> bool {
    w1 >> 28 & 0x3 != 0
}

/// The devices' own switches.
pub(crate) struct Switches(pub(crate) Arc<LoomSmmu>);

impl Switches {
    fn set(&self, stream: StreamId, on: bool) {
        // The lock waits for translated requests that are on their way.
        self.0.lock_caches().atcs[stream.0 as usize % STREAMS].on = on;
    }
}

impl AtsSwitch for Switches {
    fn enable(&self, _: SmmuId, stream: StreamId) -> Result<(), AtsRefused> {
        self.set(stream, true);
        Ok(())
    }
    fn disable(&self, _: SmmuId, stream: StreamId) {
        self.set(stream, false);
    }
    fn drain(&self, gate: &AtsGate) -> Result<Drained, TimedOut> {
        gate.drain(&Yield, Duration::MAX)
    }
}

/// A wait without an end. Loom bounds it.
struct Yield;

impl Wait for Yield {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

/// A device with ATS leaves D and turns its ATS off, beside an unmap of D. The device asks for
/// translations and uses them at any time.
pub(crate) fn ats_off_beside_unmap(stage: TranslationStage, preemptions: usize) {
    model(preemptions, move || {
        let world = World::beside(Beside::Ats, stage).attached(0, D);
        world.hardware.ask(0);
        assert!(world.hardware.atc_has(D), "the device uses no ATS");
        let mapper = {
            let (hardware, domain) = (world.hardware.clone(), world.domains[D].clone());
            spawn(move || {
                hardware.unmap(&[&domain]);
                assert!(!hardware.atc_has(D), "the device keeps a translation of the page");
            })
        };
        let walker = {
            let hardware = world.hardware.clone();
            spawn(move || {
                hardware.ask(0);
                hardware.translated_dma(0);
            })
        };
        assert!(world.devices[0].block().freed().is_some());
        assert!(!world.hardware.is_ats_on(0), "the device's ATS is on");
        mapper.join().unwrap();
        walker.join().unwrap();
        world.hardware.translated_dma(0);
        world.end();
    });
}
