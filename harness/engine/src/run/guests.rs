//! The guests of a scenario: virtual SMMUs, their devices, and their tables of stage 1.

use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::Ordering;

use smmu_driver::smmu_attach::guest::{
    AtsPermission, Emulation, GuestSmmu, HostEntry, Stop as Halt, VirtualDevice, guest_ids,
};
use smmu_driver::smmu_attach::{TranslationStage, TranslationTable, VirtualSmmu, single_context};
use smmu_driver::smmu_types::seam::{DmaBlock, DmaError, DmaLayout, DmaMemory};
use smmu_driver::smmu_types::{
    Asid, AtsMode, Capabilities, Cd, Command, FieldError, Leaf, OutputSize, PhysAddr, RawCommand,
    ShareabilityOverride, SmmuId, Ste, StreamId,
};
use smmu_driver::{Attach, Driver};

use super::platform::{Block, Dma, Harness};
use super::rig::Rig;
use super::stop::Stop;
use crate::lock::Mutex;
use crate::page_tables::{PAGE, PageTables, Permission, TableStage};
use crate::prelude::*;
use crate::scenario::{GuestSpec, GuestTableSpec};
use crate::transcript::LineKind;

/// A guest with its virtual SMMU.
pub(super) struct Guest {
    to: VirtualSmmu<Attach<Harness>>,
    parent: String,
    /// In the order of the guest's StreamIDs, which count from 0.
    devices: Vec<GuestDevice>,
}

struct GuestDevice {
    name: String,
    host: Vec<StreamId>,
    /// In the guest's memory.
    ste: Ste,
    /// What is installed for it.
    entry: HostEntry,
}

/// Tables of stage 1 in a guest's memory.
pub(crate) struct GuestTable {
    guest: String,
    pub(crate) tables: PageTables<GuestMemory>,
    memory: GuestMemory,
    /// Holds the context descriptor.
    _cd: Block,
    /// The STE that leads there.
    pub(crate) ste: Ste,
}

/// DMA memory that notes each page of it, so that the parent can map it.
#[derive(Clone, Debug)]
pub(crate) struct GuestMemory {
    dma: Dma,
    fresh: Arc<Mutex<Vec<PhysAddr>>>,
}

#[expect(unsafe_code, reason = "passes the promise of the memory behind on")]
// SAFETY: every block is one of the memory behind.
unsafe impl DmaMemory for GuestMemory {
    type Block = Block;

    fn allocate(&self, layout: DmaLayout) -> Result<Block, DmaError> {
        let block = self.dma.allocate(layout)?;
        let pages = layout.bytes().div_ceil(PAGE);
        let page = |n| PhysAddr(block.address().0 + n * PAGE);
        self.fresh.lock().extend((0..pages).map(page));
        Ok(block)
    }

    fn full_barrier(&self) {
        self.dma.full_barrier();
    }
}

/// The ID registers that the guest of an SMMU sees.
fn ids(
    driver: &Driver<Harness>,
    smmu: SmmuId,
) -> Result<smmu_driver::smmu_types::IdRegisters, Stop> {
    let host = driver.smmu(smmu)?.probe().id;
    guest_ids(&[host], &Emulation::new(OutputSize::Bits44))
        .map_err(|error| Stop::failed(error.to_string()))
}

impl Guest {
    pub(super) fn new(rig: &Rig<'_>, spec: &GuestSpec) -> Result<Self, Stop> {
        let smmu = rig.smmu_index(spec.smmu.get_ref())?;
        let ids = ids(rig.driver, SmmuId(smmu as u16))?;
        let parent = spec.parent.get_ref();
        let to = rig.smmu(smmu)?.virtual_smmu(rig.domain(parent)?, ids)?;
        let devices = spec.devices.iter().map(|name| {
            let name = name.get_ref().clone();
            let host = rig.device(&name)?.streams().collect();
            Ok(GuestDevice { name, host, ste: Ste::ABORT, entry: HostEntry::INVALID })
        });
        let devices = devices.collect::<Result<_, Stop>>()?;
        Ok(Guest { to, parent: parent.clone(), devices })
    }

    fn policy(&self) -> &GuestSmmu {
        self.to.policy()
    }
}

impl GuestTable {
    pub(super) fn new(rig: &Rig<'_>, spec: &GuestTableSpec) -> Result<Self, Stop> {
        let guest = spec.guest.get_ref().clone();
        let memory = GuestMemory { dma: rig.driver.dma().clone(), fresh: Arc::default() };
        let tables = PageTables::new(TableStage::Stage1, memory.clone())?;
        let layout = DmaLayout::new(PAGE, PAGE).ok_or(DmaError { bytes: PAGE, align: PAGE })?;
        let cd = memory.allocate(layout)?;
        let described = tables.describe();
        let TranslationStage::Stage1 { mair } = described.stage else {
            return Err(Stop::failed(format!("{guest} has no stage 1")));
        };
        let wrong = |error: FieldError| Stop::failed(error);
        let words = Cd::stage1(described.stage1(mair, Asid(spec.asid))).map_err(wrong)?;
        for (cell, word) in cd.words().iter().zip(words.0) {
            cell.store(word, Ordering::Relaxed);
        }
        cd.publish(0..words.0.len());
        let caps = Capabilities::decode(ids(rig.driver, rig.guest(&guest)?.to.smmu())?);
        let context = single_context(&caps, cd.address());
        let ste = Ste::stage1(context, AtsMode::Off, ShareabilityOverride::NonShareable);
        Ok(GuestTable { guest, tables, memory, _cd: cd, ste: ste.map_err(wrong)? })
    }
}

impl Rig<'_> {
    /// Let the parent map the pages that a guest's table has taken since the last call, at their own
    /// addresses.
    pub(crate) fn show_guest_memory(&mut self, table: &str) -> Result<(), Stop> {
        let table = self.guest_table(table)?;
        let (fresh, guest) = (mem::take(&mut *table.memory.fresh.lock()), table.guest.clone());
        let parent = self.guest(&guest)?.parent.clone();
        let mut tables = self.tables(&parent)?;
        for page in fresh {
            tables.map(page.0, page, Permission::ReadWrite)?;
        }
        Ok(())
    }

    /// A command in which the StreamIDs of the host are those that the guest knows.
    pub(crate) fn as_guest(&self, guest: &str, command: Command) -> Command {
        let known = |stream: StreamId| {
            let devices = self.guest(guest).map(|guest| &guest.devices[..]).unwrap_or_default();
            let at = devices.iter().position(|device| device.host.contains(&stream));
            at.map_or(stream, |at| StreamId(at as u32))
        };
        match command {
            Command::CfgiSte { stream, leaf } => Command::CfgiSte { stream: known(stream), leaf },
            Command::CfgiCd { stream, substream, leaf } => {
                Command::CfgiCd { stream: known(stream), substream, leaf }
            }
            Command::AtcInv { stream, substream, scope, span } => {
                Command::AtcInv { stream: known(stream), substream, scope, span }
            }
            other => other,
        }
    }

    /// A guest writes the STE of a device, and sends `CFGI_STE` and `SYNC`. The reason if the host
    /// refuses it; the device is blocked then.
    pub(crate) fn write_guest_ste(
        &mut self,
        device: &str,
        ste: Ste,
    ) -> Result<Option<String>, Stop> {
        let mut at = None;
        for (name, guest) in &mut self.guests {
            if let Some(n) = guest.devices.iter().position(|of| of.name == device) {
                guest.devices[n].ste = ste;
                at = Some((name.clone(), StreamId(n as u32)));
            }
        }
        let Some((guest, stream)) = at else {
            return Err(Stop::failed(format!("{device} belongs to no guest")));
        };
        let refusal = self.guest(&guest)?.policy().entry(&ste, AtsPermission::Denied);
        let commands = [Command::CfgiSte { stream, leaf: Leaf::Last }, Command::SYNC];
        if let Some((_, text)) = self.run_guest_commands(&guest, &commands)? {
            return Err(Stop::failed(text));
        }
        Ok(refusal.err().map(|refusal| refusal.to_string()))
    }

    /// Carry out what a guest sends. The index of the command at which its queue stops, and why.
    pub(crate) fn run_guest_commands(
        &mut self,
        name: &str,
        commands: &[Command],
    ) -> Result<Option<(usize, String)>, Stop> {
        let commands: Vec<RawCommand> = commands.iter().map(|command| command.encode()).collect();
        let mut out = [RawCommand::default(); 16];
        let mut at = 0;
        loop {
            let guest = self.guest(name)?;
            let devices: Vec<VirtualDevice<'_>> = (0..)
                .map(StreamId)
                .zip(&guest.devices)
                .map(|(of, d)| VirtualDevice { guest: of, host: &d.host, entry: d.entry })
                .collect();
            let progress = guest.policy().commands(&commands[at..], &devices[..], &mut out);
            guest.to.run(&out[..progress.written])?;
            match progress.stop {
                Halt::Reread(set) => {
                    for n in 0..guest.devices.len() {
                        if set.contains(StreamId(n as u32)) {
                            self.reread(name, n)?;
                        }
                    }
                }
                Halt::Refused(refusal) => {
                    return Ok(Some((at + refusal.index, refusal.to_string())));
                }
                Halt::Sync { .. } => {
                    self.recorder
                        .note(LineKind::Check, || format!("the SYNC of {name} is complete"));
                }
                _ => {}
            }
            match progress.resume() {
                Some(next) => at += next,
                None => return Ok(None),
            }
        }
    }

    /// Install what the policy makes of the STE of a guest's device.
    fn reread(&mut self, name: &str, n: usize) -> Result<(), Stop> {
        let guest = self.guest(name)?;
        let of = &guest.devices[n];
        let entry = guest.policy().entry(&of.ste, AtsPermission::Denied);
        let entry = entry.unwrap_or_else(|refusal| refusal.entry());
        let outcome = self.device(&of.name)?.attach_nested(&guest.to, &entry)?;
        super::committed::committed(self, outcome)?;
        // Also where the STE stays the same: the guest may have changed its context descriptor.
        let forget = |&stream: &StreamId| Command::CfgiSte { stream, leaf: Leaf::Last }.encode();
        let forget: Vec<RawCommand> = of.host.iter().map(forget).collect();
        guest.to.run(&forget)?;
        if let Some(guest) = self.guests.get_mut(name) {
            guest.devices[n].entry = entry;
        }
        Ok(())
    }
}
