//! What commands do.

use smmu_types::range::{LevelHint, RangeGranule, Span, SpanAddress};
use smmu_types::regs::gerror;
use smmu_types::{
    Asid, Command, CommandErrorCode, Completion, Iova, Ipa, Leaf, RawCommand, Regime, StreamId,
    SyncMsi, Vmid,
};

use super::device::Smmu;
use super::memory::Ram;
use super::profile::Fault;
use super::stream::L1Range;
use super::tlb::{Extent, Space};
use smmu_types::Irq;

/// Which addresses a command is about.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Everything,
    Within(Extent),
    /// It has an effect on some hardware; nothing may be relied on.
    Nothing,
}

/// How far the architecture says what a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Defined,
    /// A ranged invalidation whose address is not aligned to what its level maps. Some hardware may drop something;
    /// nothing may be relied on.
    UnpredictableRange,
}

/// What 16 bytes ask for.
pub(super) fn meaning(raw: RawCommand) -> (Command, Form) {
    let command = Command::interpret(raw);
    let by_address = matches!(
        command,
        Command::TlbiNhVa { .. }
            | Command::TlbiNhVaa { .. }
            | Command::TlbiEl2Va { .. }
            | Command::TlbiEl2Vaa { .. }
            | Command::TlbiS2Ipa { .. }
    );
    match Command::decode(raw) {
        Command::Unknown(_) if by_address => (command, Form::UnpredictableRange),
        _ => (command, Form::Defined),
    }
}

impl Smmu {
    /// Carry out a command.
    pub(super) fn execute(
        &mut self,
        ram: &Ram,
        command: Command,
        form: Form,
    ) -> Result<(), CommandErrorCode> {
        let only_if = |there: bool| if there { Ok(()) } else { Err(CommandErrorCode::ILL) };
        let (s1, s2, hyp) = (self.profile.stage1, self.profile.stage2, self.profile.hyp);
        match command {
            // Hints (4.2) that this SMMU does not take.
            Command::PrefetchConfig { .. } | Command::PrefetchAddr { .. } => {}
            Command::CfgiSte { stream, leaf } => {
                self.forget_streams(ram, stream.0, stream.0, leaf);
            }
            Command::CfgiSteRange { stream, range } => {
                let low = range.entries() - 1;
                self.forget_streams(ram, stream.0 & !low, stream.0 | low, Leaf::All);
            }
            Command::CfgiAll => self.forget_streams(ram, 0, u32::MAX, Leaf::All),
            Command::CfgiCd { stream, substream, .. } => {
                only_if(s1)?;
                // Without substreams there is only the CD of index 0.
                if substream.get() == 0 {
                    self.forget_cd(ram, stream);
                }
            }
            Command::CfgiCdAll { stream } => {
                only_if(s1)?;
                self.forget_cd(ram, stream);
            }
            Command::TlbiNhAll { vmid } => {
                only_if(s1)?;
                self.flush_stage1(ram, Regime::El1, vmid, None, Scope::Everything);
            }
            Command::TlbiNhAsid { vmid, asid } => {
                only_if(s1)?;
                self.flush(ram, Scope::Everything, |space| {
                    space == Space::Stage1 { regime: Regime::El1, vmid, asid: Some(asid) }
                });
            }
            Command::TlbiNhVa { vmid, asid, span } => {
                only_if(s1)?;
                let scope = self.scope(span, form)?;
                self.flush_stage1(ram, Regime::El1, vmid, Some(asid), scope);
            }
            Command::TlbiNhVaa { vmid, span } => {
                only_if(s1)?;
                let scope = self.scope(span, form)?;
                self.flush_stage1(ram, Regime::El1, vmid, None, scope);
            }
            Command::TlbiEl2All => {
                only_if(s1 && hyp)?;
                self.flush_stage1(ram, Regime::El2, Vmid(0), None, Scope::Everything);
            }
            Command::TlbiEl2Asid { asid } => {
                only_if(s1 && hyp)?;
                self.flush(ram, Scope::Everything, |space| {
                    let vmid = Vmid(0);
                    space == Space::Stage1 { regime: Regime::El2, vmid, asid: Some(asid) }
                });
            }
            Command::TlbiEl2Va { asid, span } => {
                only_if(s1 && hyp)?;
                let scope = self.scope(span, form)?;
                self.flush_stage1(ram, Regime::El2, Vmid(0), Some(asid), scope);
            }
            Command::TlbiEl2Vaa { span } => {
                only_if(s1 && hyp)?;
                let scope = self.scope(span, form)?;
                self.flush_stage1(ram, Regime::El2, Vmid(0), None, scope);
            }
            Command::TlbiS12Vmall { vmid } => {
                only_if(s2)?;
                self.flush(ram, Scope::Everything, |space| match space {
                    Space::Stage1 { regime, vmid: of, .. } => regime == Regime::El1 && of == vmid,
                    Space::Stage2 { vmid: of } => of == vmid,
                });
            }
            Command::TlbiS2Ipa { vmid, span } => {
                only_if(s2)?;
                let scope = self.scope(span, form)?;
                self.flush(ram, scope, |space| space == Space::Stage2 { vmid });
            }
            Command::TlbiNsnhAll => self.flush(ram, Scope::Everything, |space| {
                !matches!(space, Space::Stage1 { regime: Regime::El2, .. })
            }),
            // No device has anything cached; whether it answers is for the queue to know.
            Command::AtcInv { .. } => only_if(self.profile.ats)?,
            Command::Sync { completion: Completion::Msi(msi), .. } if self.profile.msi => {
                self.send_sync_msi(ram, msi);
            }
            Command::Sync { completion: Completion::Interrupt | Completion::Msi(_), .. } => {
                // Without MSIs the address is reserved, and the wire signals.
                self.interrupt(Irq::CmdSync);
            }
            Command::Sync { .. } => {}
            // Nothing that is not decoded.
            _ => return Err(CommandErrorCode::ILL),
        }
        Ok(())
    }

    /// The sync is complete whatever becomes of its MSI (4.7.3).
    fn send_sync_msi(&mut self, ram: &Ram, msi: SyncMsi) {
        if self.main.faults.contains(&Fault::MsiLost) {
            return;
        }
        if ram.write32(msi.address(), msi.data()).is_none() {
            self.raise_error(ram, gerror::MSI_CMDQ_ABT);
        }
    }

    /// The addresses that a span covers, or `CERROR_ILL` where this SMMU does not take its form.
    fn scope<A: SpanAddress>(&self, span: Span<A>, form: Form) -> Result<Scope, CommandErrorCode> {
        let tables = span.leaf() == Leaf::All;
        let first = span.start();
        let Some(bytes) = span.bytes() else {
            return Ok(Scope::Within(Extent { first, last: first, tables, level: None }));
        };
        if !self.profile.range_invalidation || span.scale() > 31 {
            return Err(CommandErrorCode::ILL);
        }
        let level = match span.hint() {
            LevelHint::Unknown => None,
            LevelHint::Bits64(level) => Some(level as u8),
            // There are no tables of 128-bit descriptors.
            LevelHint::Bits128(_) => return Err(CommandErrorCode::ILL),
        };
        // Entries of another granule need not go, and there are none of any other here.
        if span.tg() != RangeGranule::K4 || form == Form::UnpredictableRange {
            return Ok(Scope::Nothing);
        }
        let last = first.saturating_add(bytes - 1);
        Ok(Scope::Within(Extent { first, last, tables, level }))
    }

    fn flush_stage1(
        &mut self,
        ram: &Ram,
        regime: Regime,
        vmid: Vmid,
        asid: Option<Asid>,
        scope: Scope,
    ) {
        self.flush(ram, scope, |space| match space {
            Space::Stage1 { regime: r, vmid: v, asid: a } => {
                let any_or_own = asid.is_none_or(|asid| a.is_none_or(|a| a == asid));
                r == regime && v == vmid && any_or_own
            }
            Space::Stage2 { .. } => false,
        });
    }

    fn flush(&mut self, ram: &Ram, scope: Scope, spaces: impl Fn(Space) -> bool) {
        let gone = match scope {
            Scope::Everything => self.tlb.invalidate(spaces, None),
            Scope::Within(extent) => self.tlb.invalidate(spaces, Some(extent)),
            Scope::Nothing => return,
        };
        if self.profile.prefetch {
            for (key, line) in gone {
                self.prefetch(ram, line.stream, key.base);
            }
        }
    }

    fn forget_streams(&mut self, ram: &Ram, first: u32, last: u32, leaf: Leaf) {
        let table = self.stream_table();
        let l1 = match (leaf, table.split) {
            (Leaf::All, Some(split)) => {
                Some(L1Range { first: first >> split, last: last >> split })
            }
            // A table that is linear now may have had two levels before.
            (Leaf::All, None) => Some(L1Range { first: 0, last: u32::MAX }),
            (Leaf::Last, _) => None,
        };
        let gone = self.config.drop_streams(first, last, l1);
        if self.profile.prefetch {
            for stream in gone {
                self.prefetch_ste(ram, StreamId(stream));
            }
        }
    }

    fn forget_cd(&mut self, ram: &Ram, stream: StreamId) {
        if self.config.cds.remove(&stream.0).is_some() && self.profile.prefetch {
            self.prefetch_cd(ram, stream);
        }
    }
}

/// The command that drops what a space has cached of one address; everything of its tag for an address that no
/// command can name.
pub(super) fn tlbi_address(space: Space, of: Space, address: u64, leaf: Leaf) -> Command {
    let address = address & !0xfff;
    let command = match space {
        Space::Stage2 { vmid } => {
            Span::single(Ipa(address), leaf).map(|span| Command::TlbiS2Ipa { vmid, span })
        }
        Space::Stage1 { regime, vmid, asid } => Span::single(Iova(address), leaf).map(|span| {
            let own = match of {
                Space::Stage1 { asid, .. } => asid,
                Space::Stage2 { .. } => None,
            };
            match (regime, asid) {
                (Regime::El1, Some(asid)) => Command::TlbiNhVa { vmid, asid, span },
                (Regime::El1, None) => Command::TlbiNhVaa { vmid, span },
                (Regime::El2, asid) => {
                    Command::TlbiEl2Va { asid: asid.or(own).unwrap_or_default(), span }
                }
            }
        }),
    };
    command.unwrap_or_else(|_no_such_address| tlbi_tag(space))
}

/// The command that drops everything that a tag has cached.
pub(super) fn tlbi_tag(space: Space) -> Command {
    match space {
        Space::Stage2 { vmid } => Command::TlbiS12Vmall { vmid },
        Space::Stage1 { regime: Regime::El1, vmid, asid: Some(asid) } => {
            Command::TlbiNhAsid { vmid, asid }
        }
        Space::Stage1 { regime: Regime::El1, vmid, asid: None } => Command::TlbiNhAll { vmid },
        Space::Stage1 { regime: Regime::El2, asid: Some(asid), .. } => {
            Command::TlbiEl2Asid { asid }
        }
        Space::Stage1 { regime: Regime::El2, asid: None, .. } => Command::TlbiEl2All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // What is carried out at all is tested where `Command::interpret` is.
    #[rstest]
    #[case::sync_with_data([0x5_0000_0046, 0], Form::Defined)]
    #[case::aligned([0x0005_0000_0090_0012, 0x20_0601], Form::Defined)]
    #[case::unaligned([0x0005_0000_0090_0012, 0x20_1601], Form::UnpredictableRange)]
    #[case::secure([0x404, 31], Form::Defined)]
    fn only_ranges_are_unpredictable(#[case] raw: [u64; 2], #[case] want: Form) {
        assert_eq!(meaning(RawCommand(raw)).1, want);
    }
}
