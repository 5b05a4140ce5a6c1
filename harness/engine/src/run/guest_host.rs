//! The host's side of the guests of a scenario: it makes them, maps their memory, and carries out
//! what they send.

use smmu_driver::smmu_attach::SteChange;
use smmu_driver::smmu_attach::guest::{
    AtsPermission, Emulation, Stop as Halt, VirtualDevice, guest_ids,
};
use smmu_driver::smmu_types::{
    Asid, Command, Leaf, OutputSize, PhysAddr, RawCommand, SmmuId, Ste, StreamId,
};

use super::committed::committed;
use super::domains::own_memory;
use super::guests::{Guest, GuestTable};
use super::rig::Rig;
use super::stop::Stop;
use crate::page_tables::{PAGE, Permission};
use crate::prelude::*;
use crate::scenario::ScenarioFile;
use crate::transcript::LineKind;

/// Makes the guests of a scenario and their empty tables.
pub(super) fn make(rig: &mut Rig<'_>, file: &ScenarioFile) -> Result<(), Stop> {
    for spec in &file.guests {
        let smmu = rig.smmu_index(spec.smmu.get_ref())?;
        let host = rig.driver.smmu(SmmuId(smmu as u16))?.probe().id;
        let ids = guest_ids(&[host], &Emulation::new(OutputSize::Bits44))
            .map_err(|error| Stop::failed(error.to_string()))?;
        let parent = spec.parent.get_ref();
        let to = rig.smmu(smmu)?.virtual_smmu(rig.domain(parent)?, ids)?;
        let devices = spec.devices.iter().map(|name| {
            let name = name.get_ref().clone();
            let host = rig.device(&name)?.streams().collect();
            Ok((name, host))
        });
        let guest = Guest::new(to, parent.clone(), devices.collect::<Result<_, Stop>>()?);
        rig.guests.insert(spec.name.get_ref().clone(), guest);
    }
    for spec in &file.guest_tables {
        let (name, of) = (spec.name.get_ref(), spec.guest.get_ref());
        let dma = rig.driver.dma().clone();
        let mut table = GuestTable::new(of, rig.guest(of)?, Asid(spec.asid), dma)?;
        // The rings of devices, which the parent maps at their own addresses. They may share some.
        let rings = own_memory(rig.scenario, &*rig.machine);
        for page in rings.into_iter().flat_map(|ring| ring.step_by(PAGE as usize)) {
            if !table.tables.maps(page, PhysAddr(page)) {
                table.tables.map(page, PhysAddr(page), Permission::ReadWrite)?;
            }
        }
        rig.guest_tables.insert(name.clone(), table);
        rig.show_guest_memory(name)?;
    }
    Ok(())
}

impl Rig<'_> {
    /// Let the parent map the pages that a guest's table has taken since the last call, at their own
    /// addresses.
    pub(crate) fn show_guest_memory(&mut self, table: &str) -> Result<(), Stop> {
        let table = self.guest_table(table)?;
        let (fresh, guest) = (table.take_fresh(), table.guest.clone());
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
        let commands = [Command::CfgiSte { stream, leaf: Leaf::Last }, Command::SYNC];
        if let Some((_, text)) = self.run_guest_commands(&guest, &commands)? {
            return Err(Stop::failed(text));
        }
        let n = stream.0 as usize;
        Ok(self.guest(&guest)?.devices[n].refusal.map(|refusal| refusal.to_string()))
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

    /// Let the device follow the STE that the guest has written.
    fn reread(&mut self, name: &str, n: usize) -> Result<(), Stop> {
        let guest = self.guest(name)?;
        let of = &guest.devices[n];
        let reread = guest.to.reread(self.device(&of.name)?, &of.ste, AtsPermission::Denied)?;
        reread.confirmed()?;
        if let SteChange::Attached(outcome) = reread.change {
            committed(self, outcome)?;
        }
        if let Some(guest) = self.guests.get_mut(name) {
            let of = &mut guest.devices[n];
            (of.entry, of.refusal) = (reread.entry, reread.refusal);
        }
        Ok(())
    }
}
