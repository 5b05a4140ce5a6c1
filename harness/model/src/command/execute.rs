//! Carries out commands: invalidations, prefetch hints, answers to faults, `CMD_SYNC`.

use smmu_types::range::{LevelHint, RangeGranule, Span, SpanAddress};
use smmu_types::regs::gerror;
use smmu_types::{
    Asid, Command, CommandErrorCode, Completion, Granule, Irq, Leaf, Regime, StreamId, SyncMsi,
    Vmid,
};

use crate::cache::config_cache::{Dropped, L1Range};
use crate::cache::tlb::TlbExtent;
use crate::command::form::CommandForm;
use crate::injected_fault::InjectedFault;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::walk::space::Space;

/// The addresses that a TLBI covers.
#[derive(Clone, Copy, Debug)]
enum FlushScope {
    Everything,
    Within(TlbExtent),
    /// The effect is not defined for this form or granule, so the model drops nothing.
    Nothing,
}

impl ModelSmmu {
    /// Refuse an invalidation as [`execute`](Self::execute) does, and drop nothing.
    pub(crate) fn check(
        &mut self,
        ram: &ModelRam,
        invalidation: Command,
        form: CommandForm,
    ) -> Result<(), CommandErrorCode> {
        self.only_checks = true;
        let checked = self.execute(ram, invalidation, form);
        self.only_checks = false;
        checked
    }

    /// Carry out a command, or refuse it with `CERROR_ILL`.
    pub(crate) fn execute(
        &mut self,
        ram: &ModelRam,
        command: Command,
        form: CommandForm,
    ) -> Result<(), CommandErrorCode> {
        if !self.only_checks {
            self.due.retain(|due| *due != command);
        }
        let only_if = |there: bool| if there { Ok(()) } else { Err(CommandErrorCode::ILL) };
        let (s1, s2, hyp) = (self.profile.stage1, self.profile.stage2, self.profile.hyp);
        match command {
            // Prefetch commands are hints (4.2); this SMMU ignores them.
            Command::PrefetchConfig { .. } | Command::PrefetchAddr { .. } => {}
            Command::CfgiSte { stream, leaf } => {
                self.forget_streams(ram, stream.0, stream.0, leaf);
            }
            Command::CfgiSteRange { stream, range } => {
                let low = range.entries() - 1;
                self.forget_streams(ram, stream.0 & !low, stream.0 | low, Leaf::All);
            }
            Command::CfgiAll => self.forget_streams(ram, 0, u32::MAX, Leaf::All),
            Command::CfgiCd { stream, substream, leaf } => {
                only_if(s1)?;
                // A SubstreamID out of range drops nothing: no CD has its index (4.3.3).
                self.forget_cd(ram, stream, substream.get(), leaf);
            }
            Command::CfgiCdAll { stream } => {
                only_if(s1)?;
                if !self.only_checks {
                    let gone = self.config.drop_cds(stream.0, stream.0);
                    self.fetch_again(ram, &gone);
                    self.judge_update(&gone);
                }
            }
            Command::TlbiNhAll { vmid } => {
                only_if(s1)?;
                self.flush_stage1(ram, Regime::El1, vmid, None, FlushScope::Everything);
            }
            Command::TlbiNhAsid { vmid, asid } => {
                only_if(s1)?;
                self.flush(ram, FlushScope::Everything, |space| {
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
                self.flush_stage1(ram, Regime::El2, Vmid(0), None, FlushScope::Everything);
            }
            Command::TlbiEl2Asid { asid } => {
                only_if(s1 && hyp)?;
                self.flush(ram, FlushScope::Everything, |space| {
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
                self.flush(ram, FlushScope::Everything, |space| match space {
                    Space::Stage1 { regime, vmid: of, .. } => regime == Regime::El1 && of == vmid,
                    Space::Stage2 { vmid: of } => of == vmid,
                });
            }
            Command::TlbiS2Ipa { vmid, span } => {
                only_if(s2)?;
                let scope = self.scope(span, form)?;
                self.flush(ram, scope, |space| space == Space::Stage2 { vmid });
            }
            Command::TlbiNsnhAll => self.flush(ram, FlushScope::Everything, |space| {
                !matches!(space, Space::Stage1 { regime: Regime::El2, .. })
            }),
            // The queue carries it out: a device may not answer.
            Command::AtcInv { .. } => only_if(self.profile.ats)?,
            Command::PriResp { stream, substream, group, response } => {
                self.page_response(stream, substream, group, response)?;
            }
            Command::Resume { stream, tag, action } => self.resume(ram, stream, tag, action)?,
            Command::StallTerm { stream } => self.stall_term(ram, stream)?,
            Command::Sync { completion: Completion::Msi(msi), .. } if self.profile.msi => {
                self.send_sync_msi(ram, msi);
            }
            Command::Sync { completion: Completion::Interrupt | Completion::Msi(_), .. } => {
                // Without MSIs the address is reserved; the SMMU signals the wired interrupt.
                self.interrupt(Irq::CmdSync);
            }
            Command::Sync { .. } => {}
            // Every unknown command is illegal.
            _ => return Err(CommandErrorCode::ILL),
        }
        Ok(())
    }

    /// Send the MSI of a `CMD_SYNC`, which completes even if the MSI aborts (4.7.3).
    fn send_sync_msi(&mut self, ram: &ModelRam, msi: SyncMsi) {
        if self.main.faults.contains(&InjectedFault::MsiLost) {
            return;
        }
        if ram.write32(msi.address(), msi.data()).is_none() {
            self.raise_error(ram, gerror::MSI_CMDQ_ABT);
        }
    }

    /// The addresses that a span covers, or `CERROR_ILL` if this SMMU does not support its form.
    fn scope<A: SpanAddress>(
        &self,
        span: Span<A>,
        form: CommandForm,
    ) -> Result<FlushScope, CommandErrorCode> {
        let tables = span.leaf() == Leaf::All;
        let first = span.start();
        let Some(bytes) = span.bytes() else {
            return Ok(FlushScope::Within(TlbExtent {
                first,
                last: first,
                tables,
                level: None,
                granule: None,
            }));
        };
        if !self.profile.range_invalidation || span.scale() > 31 {
            return Err(CommandErrorCode::ILL);
        }
        let level = match span.hint() {
            LevelHint::Unknown => None,
            LevelHint::Bits64(level) => Some(level as u8),
            // The model has no tables of 128-bit descriptors.
            LevelHint::Bits128(_) => return Err(CommandErrorCode::ILL),
        };
        if form == CommandForm::UnpredictableRange {
            return Ok(FlushScope::Nothing);
        }
        // A TLBI need not drop entries of other granules.
        let granule = match span.tg() {
            RangeGranule::Single => None,
            RangeGranule::K4 => Some(Granule::K4),
            RangeGranule::K16 => Some(Granule::K16),
            RangeGranule::K64 => Some(Granule::K64),
        };
        let last = first.saturating_add(bytes - 1);
        Ok(FlushScope::Within(TlbExtent { first, last, tables, level, granule }))
    }

    fn flush_stage1(
        &mut self,
        ram: &ModelRam,
        regime: Regime,
        vmid: Vmid,
        asid: Option<Asid>,
        scope: FlushScope,
    ) {
        self.flush(ram, scope, |space| match space {
            Space::Stage1 { regime: r, vmid: v, asid: a } => {
                let any_or_own = asid.is_none_or(|asid| a.is_none_or(|a| a == asid));
                r == regime && v == vmid && any_or_own
            }
            Space::Stage2 { .. } => false,
        });
    }

    fn flush(&mut self, ram: &ModelRam, scope: FlushScope, spaces: impl Fn(Space) -> bool) {
        if self.only_checks {
            return;
        }
        let gone = match scope {
            FlushScope::Everything => self.tlb.invalidate(spaces, None),
            FlushScope::Within(extent) => self.tlb.invalidate(spaces, Some(extent)),
            FlushScope::Nothing => return,
        };
        if !self.devices.is_empty() {
            self.unsynced.extend(&gone);
        }
        if self.profile.prefetch {
            for (key, line) in gone {
                self.prefetch(ram, line.source, &key);
            }
        }
    }

    fn forget_streams(&mut self, ram: &ModelRam, first: u32, last: u32, leaf: Leaf) {
        if self.only_checks {
            return;
        }
        let table = self.stream_table();
        let l1 = match (leaf, table.split) {
            (Leaf::All, Some(split)) => {
                Some(L1Range { first: first >> split, last: last >> split })
            }
            // The table may have had two levels before: drop every level-1 descriptor.
            (Leaf::All, None) => Some(L1Range { first: 0, last: u32::MAX }),
            (Leaf::Last, _) => None,
        };
        let mut gone = self.config.drop_streams(first, last, l1);
        if self.profile.word_by_word && first == last && gone.stes.is_empty() {
            // Read now what the driver may change until the next invalidation.
            self.prefetch_ste(ram, StreamId(first));
        }
        self.fetch_again(ram, &gone);
        gone.cds.clear();
        self.judge_update(&gone);
    }

    fn forget_cd(&mut self, ram: &ModelRam, stream: StreamId, index: u32, leaf: Leaf) {
        if self.only_checks {
            return;
        }
        let table = self.cached_cds(stream);
        let dropped = self.config.drop_cd(stream, index, table.as_ref(), leaf);
        let cds: Vec<_> = dropped.map(|cd| ((stream.0, index), cd)).into_iter().collect();
        if self.profile.word_by_word && cds.is_empty() {
            self.prefetch_cd(ram, stream, index);
        }
        let gone = Dropped { stes: Vec::new(), cds };
        self.fetch_again(ram, &gone);
        self.judge_update(&gone);
    }

    /// Prefetch what a command dropped.
    fn fetch_again(&mut self, ram: &ModelRam, gone: &Dropped) {
        if !self.profile.prefetch {
            return;
        }
        for (stream, _) in &gone.stes {
            self.prefetch_ste(ram, StreamId(*stream));
        }
        for ((stream, index), _) in &gone.cds {
            self.prefetch_cd(ram, StreamId(*stream), *index);
        }
    }
}
