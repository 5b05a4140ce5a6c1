//! Writes a context descriptor and an STE past the driver.

use core::sync::atomic::Ordering;

use smmu_driver::Smmu;
use smmu_driver::smmu_attach::{TranslationStage, single_context};
use smmu_driver::smmu_types::regs::strtab;
use smmu_driver::smmu_types::seam::{CommandSink, DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{
    Asid, AtsMode, Cd, Command, FieldError, Leaf, PhysAddr, ShareabilityOverride, Ste, StreamId,
    SubstreamId,
};

use crate::machine::Ram;
use crate::prelude::*;
use crate::run::platform::Harness;
use crate::run::report::RunReport;
use crate::run::rig::Rig;
use crate::run::step_action::StepAction;
use crate::run::stop::Stop;
use crate::scenario::Install;

impl StepAction for Install {
    /// Leads the device into the tables of a stage-1 domain under an ASID of the scenario's choice.
    /// The driver allocates no tag, changes no array and flushes nothing.
    fn run(&self, rig: &mut Rig, _: usize, _: &mut RunReport) -> Result<(), Stop> {
        let (device, domain, asid) =
            (self.device.get_ref(), self.domain.get_ref(), Asid(self.asid));
        rig.past_driver.insert(device.to_owned());
        let table = *rig.domain(domain)?.description();
        let TranslationStage::Stage1 { mair } = table.stage else {
            return Err(Stop::failed(format!("{domain} has no stage 1")));
        };
        if !rig.raw_cds.contains_key(device) {
            let layout = DmaLayout::new(Cd::BYTES as u64, 64)
                .ok_or(DmaError { bytes: Cd::BYTES as u64, align: 64 })?;
            rig.raw_cds.insert(device.to_owned(), rig.driver.dma().allocate(layout)?);
        }
        let smmu = rig.smmu(usize::from(rig.device(device)?.smmu().0))?.clone();
        let stream = rig.device(device)?.streams().next().unwrap_or_default();
        let layout = |error: FieldError| Stop::failed(error);
        let cd = Cd::stage1(table.stage1(mair, asid)).map_err(layout)?;
        let Some(block) = rig.raw_cds.get(device) else { return Ok(()) };
        let config = single_context(smmu.capabilities(), block.address());
        let ste = Ste::stage1(config, AtsMode::Off, ShareabilityOverride::NonShareable)
            .map_err(layout)?;

        let queue = rig
            .sink()
            .queue(smmu.id())
            .ok_or_else(|| Stop::failed(format!("{} has no queue", smmu.id())))?;
        let forget_ste = Command::CfgiSte { stream, leaf: Leaf::Last };
        let substream = SubstreamId::default();
        let forget_cd = Command::CfgiCd { stream, substream, leaf: Leaf::Last };
        let at = ste_address(&rig.ram, &smmu, stream)?;
        let store = |at: PhysAddr, words: &[u64]| -> Result<(), Stop> {
            for (n, &value) in words.iter().enumerate().rev() {
                let stored = rig.ram.store(PhysAddr(at.0 + n as u64 * 8), value);
                stored.ok_or_else(|| Stop::failed(format!("{at} is not in RAM")))?;
            }
            Ok(())
        };
        store(at, &[0])?;
        let _proof = queue.run(smmu.id(), &[forget_ste, forget_cd])?;
        store(block.address(), &cd.0)?;
        store(at, &ste.0)?;
        let _proof = queue.run(smmu.id(), &[forget_ste, forget_cd])?;
        Ok(())
    }
}

/// Where the STE of a stream lies.
pub(super) fn ste_address(
    ram: &Ram,
    smmu: &Smmu<Harness>,
    stream: StreamId,
) -> Result<PhysAddr, Stop> {
    let (base, format) = smmu.stream_table();
    let (span, index) = format.place(stream);
    match format {
        strtab::StreamTableFormat::Linear { .. } => Ok(PhysAddr(base.0 + u64::from(index) * 64)),
        strtab::StreamTableFormat::TwoLevel { .. } => {
            let l1 = PhysAddr(base.0 + u64::from(span) * 8);
            let descriptor = ram.word(l1).map_or(0, |word| word.load(Ordering::SeqCst));
            if descriptor & 0x1f == 0 {
                return Err(Stop::failed(format!("stream {stream} has no second-level table")));
            }
            let l2 = descriptor & 0x000f_ffff_ffff_ffc0;
            Ok(PhysAddr(l2 + u64::from(index) * 64))
        }
    }
}
