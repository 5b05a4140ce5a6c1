//! Table entries in memory, as they are when the driver invalidates them.

use alloc::collections::BTreeMap;
use core::sync::atomic::Ordering;

use smmu_driver::smmu_types::regs::{self, strtab};
use smmu_driver::smmu_types::{
    Command, ContextTableDescriptor, PhysAddr, Ste, SteConfig, StreamId, StreamTableDescriptor,
    TableConfig,
};

use crate::machine::Ram;
use crate::prelude::*;

/// The words of an STE or of a CD.
pub(super) type Words = [u64; 8];

/// An entry that differs from what it was at the last invalidation of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) stream: StreamId,
    /// The SubstreamID of a CD; `None` for the STE.
    pub(super) substream: Option<u32>,
    pub(super) before: Words,
    pub(super) after: Words,
}

/// Finds the entries of one SMMU by its registers, and remembers their words.
#[derive(Debug, Default)]
pub(super) struct Entries {
    base: u64,
    config: u32,
    known: BTreeMap<(u32, Option<u32>), Words>,
}

impl Entries {
    /// The driver writes a register.
    pub(super) fn wrote(&mut self, offset: u32, value: u64) {
        if offset == regs::STRTAB_BASE.offset() {
            self.base = value;
        } else if offset == regs::STRTAB_BASE_CFG.offset() {
            self.config = value as u32;
        }
    }

    /// The entries that a command is about and that have changed. With an STE also its first CD,
    /// which the SMMU fetches through it.
    pub(super) fn changed(&mut self, ram: &Ram, command: &Command) -> Vec<Changed> {
        let mut changed = Vec::new();
        match *command {
            Command::CfgiSte { stream, .. } | Command::CfgiCdAll { stream } => {
                self.look(ram, stream, None, &mut changed);
                self.look(ram, stream, Some(0), &mut changed);
            }
            Command::CfgiCd { stream, substream, .. } => {
                self.look(ram, stream, Some(substream.get()), &mut changed);
            }
            _ => {}
        }
        changed
    }

    fn look(
        &mut self,
        ram: &Ram,
        stream: StreamId,
        substream: Option<u32>,
        changed: &mut Vec<Changed>,
    ) {
        let found = self.ste(ram, stream).and_then(|at| match substream {
            None => Some(at),
            Some(cd) => cd_address(ram, &Ste(words(ram, at)?), cd),
        });
        let Some(after) = found.and_then(|at| words(ram, at)) else { return };
        let before = self.known.insert((stream.0, substream), after).unwrap_or_default();
        if before != after {
            changed.push(Changed { stream, substream, before, after });
        }
    }

    fn ste(&self, ram: &Ram, stream: StreamId) -> Option<PhysAddr> {
        let config = strtab::DecodedConfig::decode(self.config);
        if u64::from(stream.0) >> config.log2.min(32) != 0 {
            return None;
        }
        let base = strtab::DecodedBase::decode(self.base).effective_address(config);
        let (table, within) = match config.second_level_bits() {
            None => (base, stream.0),
            Some(split) => {
                let l1 = PhysAddr(base.0 + u64::from(stream.0 >> split) * 8);
                let within = stream.0 & ((1 << split) - 1);
                let (table, log2) = StreamTableDescriptor([word(ram, l1)?]).array()?;
                (table, (within >> log2 == 0).then_some(within)?)
            }
        };
        Some(PhysAddr(table.0.checked_add(u64::from(within) * Ste::BYTES as u64)?))
    }
}

/// Where a CD lies. `None` behind stage 2, where its address is the guest's.
fn cd_address(ram: &Ram, ste: &Ste, cd: u32) -> Option<PhysAddr> {
    let SteConfig::Stage1(TableConfig { format, context, cd_max, .. }) = ste.decode() else {
        return None;
    };
    if cd >> u32::from(cd_max).min(31) != 0 {
        return None;
    }
    let leaf = match format {
        1 if cd_max > 0 => 6,
        2 if cd_max > 0 => 10,
        _ => return Some(PhysAddr(context.0.checked_add(u64::from(cd) * 64)?)),
    };
    let l1 = PhysAddr(context.0.checked_add(u64::from(cd >> leaf) * 8)?);
    let table = ContextTableDescriptor([word(ram, l1)?]).table()?;
    Some(PhysAddr(table.0.checked_add(u64::from(cd & ((1 << leaf) - 1)) * 64)?))
}

fn word(ram: &Ram, at: PhysAddr) -> Option<u64> {
    ram.word(at).map(|word| word.load(Ordering::Acquire))
}

fn words(ram: &Ram, at: PhysAddr) -> Option<Words> {
    let mut words = Words::default();
    for (n, place) in words.iter_mut().enumerate() {
        *place = word(ram, PhysAddr(at.0.checked_add(8 * n as u64)?))?;
    }
    Some(words)
}
