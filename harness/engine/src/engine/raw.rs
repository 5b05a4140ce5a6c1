//! Table entries written past the driver.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smmu_driver::smmu_attach::{Smmu, TranslationStage, single_context};
use smmu_driver::smmu_types::regs::strtab;
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{
    Asid, AtsMode, Cd, Command, Leaf, PhysAddr, ShareabilityOverride, Ste, StreamId, SubstreamId,
};

use super::platform::Harness;
use super::rig::Rig;
use super::run::Stop;
use crate::machine::Ram;

impl Rig {
    /// Lead a device into the tables of a stage-1 domain under an ASID, past the driver: no tag is
    /// allocated, no array changes and nothing is flushed.
    pub(crate) fn install_raw(
        &mut self,
        device: &str,
        domain: &str,
        asid: Asid,
    ) -> Result<(), Stop> {
        let table = *self.domain(domain)?.table();
        let TranslationStage::Stage1 { mair } = table.stage else {
            return Err(Stop::Failed(format!("{domain} has no stage 1")));
        };
        if !self.raw_cds.contains_key(device) {
            let layout = DmaLayout::new(Cd::BYTES as u64, 64)
                .ok_or(DmaError { bytes: Cd::BYTES as u64, align: 64 })?;
            self.raw_cds.insert(device.to_owned(), self.dma.allocate(layout)?);
        }
        let smmu = Arc::clone(self.device(device)?.smmu());
        let stream = self.device(device)?.streams().first().copied().unwrap_or_default();
        let layout = |error: smmu_driver::smmu_types::FieldError| Stop::Failed(error.to_string());
        let cd = Cd::stage1(table.stage1(mair, asid)).map_err(layout)?;
        let Some(block) = self.raw_cds.get(device) else { return Ok(()) };
        let config = single_context(smmu.capabilities(), block.address());
        let ste = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::NonShareable)
            .map_err(layout)?;

        let queue = self
            .sink
            .queue(smmu.id())
            .ok_or_else(|| Stop::Failed(format!("{} has no queue", smmu.id())))?;
        let forget_ste = Command::CfgiSte { stream, leaf: Leaf::Last };
        let substream = SubstreamId::default();
        let forget_cd = Command::CfgiCd { stream, substream, leaf: Leaf::Last };
        let at = ste_address(&self.ram, &smmu, stream)?;
        let store = |at: PhysAddr, words: &[u64]| -> Result<(), Stop> {
            for (n, &value) in words.iter().enumerate().rev() {
                let word = self.ram.word(PhysAddr(at.0 + n as u64 * 8));
                let word = word.ok_or_else(|| Stop::Failed(format!("{at} is not in RAM")))?;
                word.store(value, Ordering::SeqCst);
            }
            Ok(())
        };
        store(at, &[0])?;
        let _proof = queue.run(&[forget_ste, forget_cd])?;
        store(block.address(), &cd.0)?;
        store(at, &ste.0)?;
        let _proof = queue.run(&[forget_ste, forget_cd])?;
        Ok(())
    }
}

/// Where the STE of a stream lies.
fn ste_address(ram: &Ram, smmu: &Smmu<Harness>, stream: StreamId) -> Result<PhysAddr, Stop> {
    let (base, format) = smmu.stream_table();
    match format {
        strtab::Format::Linear { .. } => Ok(PhysAddr(base.0 + u64::from(stream.0) * 64)),
        strtab::Format::TwoLevel { .. } => {
            let l1 = PhysAddr(base.0 + u64::from(stream.0 >> strtab::SPLIT) * 8);
            let descriptor = ram.word(l1).map_or(0, |word| word.load(Ordering::SeqCst));
            if descriptor & 0x1f == 0 {
                return Err(Stop::Failed(format!("stream {stream} has no second-level table")));
            }
            let l2 = descriptor & 0x000f_ffff_ffff_ffc0;
            Ok(PhysAddr(l2 + u64::from(stream.0 & 0xff) * 64))
        }
    }
}
