//! Memory that an SMMU writes its MSIs to.

use core::sync::atomic::Ordering;

use smmu_driver::smmu_hw_mmio::{Msi, Msis};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{FieldError, Irq, MsiAttributes, PhysAddr};

use super::platform::{Block, Dma};
use super::rig_error::RigError;
use crate::page_tables::PAGE;
use crate::prelude::*;

/// The interrupts that can be MSIs, in the order of their words.
const SOURCES: [Irq; 3] = [Irq::EventQueue, Irq::PriQueue, Irq::Gerror];

/// The data of an MSI, by the index of its source.
const fn data(index: usize) -> u32 {
    0x5a0 + index as u32
}

/// A page with a word for each MSI of one SMMU.
#[derive(Debug)]
pub(super) struct Doorbell(Block);

impl Doorbell {
    pub(super) fn new(dma: &Dma) -> Result<Self, RigError> {
        let none = DmaError { bytes: PAGE, align: PAGE };
        Ok(Doorbell(dma.allocate(DmaLayout::new(PAGE, PAGE).ok_or(none)?)?))
    }

    fn msi(&self, index: usize) -> Result<Msi, FieldError> {
        let address = PhysAddr(self.0.address().0 + 8 * index as u64);
        Msi::new(address, data(index), MsiAttributes::WRITE_BACK)
    }

    /// The MSIs that come here. An SMMU without PRI has none for page requests.
    pub(super) fn msis(&self, has_pri: bool) -> Result<Msis, FieldError> {
        Ok(Msis {
            events: Some(self.msi(0)?),
            page_requests: if has_pri { Some(self.msi(1)?) } else { None },
            gerror: Some(self.msi(2)?),
        })
    }

    /// The MSIs that came since the last call, each with what it was: an MSI, or wrong data.
    pub(super) fn rung(&self) -> Vec<(Irq, String)> {
        self.0.observe(0..SOURCES.len());
        let came = SOURCES.into_iter().zip(self.0.words()).enumerate();
        // Loaded and stored only: DMA memory may be mapped in a way that has no atomic exchange.
        let came = came.map(|(n, (irq, word))| {
            let came = word.load(Ordering::Acquire);
            if came != 0 {
                word.store(0, Ordering::Relaxed);
                self.0.publish(n..n + 1);
            }
            (n, irq, came)
        });
        came.filter(|(_, _, came)| *came != 0)
            .map(|(n, irq, came)| match came == u64::from(data(n)) {
                true => (irq, "msi".into()),
                false => (irq, format!("msi with wrong data {came:#x}")),
            })
            .collect()
    }
}
