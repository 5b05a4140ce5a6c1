//! A transaction of a device: configuration, lookup, output address or event.

use smmu_types::fields::events::f_permission::TTRNW;
use smmu_types::regs::cr2;
use smmu_types::{EventClass, EventKind, EventRecord, Iova, PhysAddr};

use crate::cache::tlb::{TlbKey, TlbLine};
use crate::config::treatment::{Refusal, Treatment};
use crate::dma::access::DmaAccess;
use crate::hazard::Permissions;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::table_walk::WalkFault;
use crate::walk::translation::{Stages, WalkStage};

/// Why a transaction does not pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoPassage {
    /// The SMMU refused it.
    Refused,
    /// It stalls. The event has no tag yet, and is not recorded.
    Stalls(EventRecord),
}

impl ModelSmmu {
    /// The output address of an access. An SMMU without caches keeps nothing of it.
    pub(crate) fn translate(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
        access: DmaAccess,
    ) -> Result<PhysAddr, NoPassage> {
        if let Some(known) = self.memo.find(ram, source, iova, access) {
            return Ok(known);
        }
        let entries = self.cached_entries();
        if self.memo.pays() {
            ram.note_reads();
        }
        let translated = self.translate_by_caches(ram, source, iova, access);
        let words = ram.take_reads();
        if self.cached_entries() != entries {
            self.memo.forget();
        } else if let (Ok(output), Some(words)) = (&translated, words)
            && self.hazards.is_empty()
        {
            self.memo.keep(source, iova, access, *output, words);
        }
        self.forget_without_caches();
        translated
    }

    /// How many entries are cached. A transaction drops none, and replaces none.
    fn cached_entries(&self) -> usize {
        self.config.entries() + self.tlb.entries()
    }

    fn translate_by_caches(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
        access: DmaAccess,
    ) -> Result<PhysAddr, NoPassage> {
        if !self.translates() {
            return if self.regs.aborts_all() {
                Err(NoPassage::Refused)
            } else {
                Ok(PhysAddr(iova))
            };
        }
        let configured = self.configuration(ram, source);
        if let Some(hazard) = self.stale_configuration(ram, source) {
            self.hazard(hazard);
        }
        match configured {
            Ok(Treatment::Abort) => Err(NoPassage::Refused),
            Ok(treatment) if skips_stage1(&treatment) && self.is_too_large(iova) => {
                let kind = EventKind::F_ADDR_SIZE;
                let event = event_of(kind, source)
                    .with_access(Iova(iova), access == DmaAccess::Read)
                    .with_class(EventClass::In);
                self.record(ram, event);
                Err(NoPassage::Refused)
            }
            Ok(Treatment::Bypass) => Ok(PhysAddr(iova)),
            Ok(Treatment::Translate(stages)) => self.look_up(ram, source, &stages, iova, access),
            Err(Refusal { fault: Some(fault), .. }) => {
                Err(self.fault(ram, source, iova, access, fault))
            }
            Err(refusal) => {
                self.refuse(ram, source, refusal);
                Err(NoPassage::Refused)
            }
        }
    }

    pub(crate) fn refuse(&mut self, ram: &ModelRam, source: Requester, refusal: Refusal) {
        if let Some(feature) = refusal.unsupported {
            self.unsupported(source.stream, feature);
        }
        // The SMMU records `C_BAD_STREAMID` only with `CR2.RECINVSID`.
        let silent = self.regs.cr2 & cr2::RECINVSID == 0;
        if refusal.kind == EventKind::C_BAD_STREAMID && silent {
            self.leave_out(refusal_event(source, &refusal));
            return;
        }
        self.record_refusal(ram, source, refusal);
    }

    pub(crate) fn record_refusal(&mut self, ram: &ModelRam, source: Requester, refusal: Refusal) {
        self.record(ram, refusal_event(source, &refusal));
    }

    /// An address that skips stage 1 has the size of an IPA at most, which is OAS here (3.4).
    pub(crate) fn is_too_large(&self, address: u64) -> bool {
        address >> self.profile.output_bits() != 0
    }

    pub(crate) fn look_up(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        stages: &Stages,
        iova: u64,
        access: DmaAccess,
    ) -> Result<PhysAddr, NoPassage> {
        let found = self.find_or_walk(ram, source, stages, iova, access.wanted());
        let allowed = found.and_then(|(key, line)| {
            let Stages { first, second } = stages;
            if access.allowed(line.permissions) {
                return Ok(line.mapping(&key).at(iova));
            }
            Err(match (line.stage1, second) {
                (Some(stage1), Some(second)) if access.allowed(stage1.permissions) => {
                    let ipa = stage1.ipa | iova & (key.size() - 1);
                    WalkFault::of(second, EventKind::F_PERMISSION, key.level, ipa)
                }
                _ => WalkFault::of(first, EventKind::F_PERMISSION, key.level, iova),
            })
        });
        allowed.map_err(|fault| self.fault(ram, source, iova, access, fault))
    }

    /// The cached line that translates `iova`, or the one that a walk finds and the cache keeps.
    /// `wanted` is as in [`walk_and_keep`](Self::walk_and_keep).
    pub(crate) fn find_or_walk(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        stages: &Stages,
        iova: u64,
        wanted: Permissions,
    ) -> Result<(TlbKey, TlbLine), WalkFault> {
        let stream = source.stream;
        let first = &stages.first;
        // Only a walk checks the input size: a cached line serves all that it covers.
        let (mut way, mut walked) = (None, false);
        let found = match self.tlb.find(first.space, iova) {
            Some(found) => found,
            None => {
                way = self.stale_way(ram, stream, stages, iova);
                let kept = self.walk_and_keep(ram, source, stages, iova, wanted);
                match kept.map(|()| self.tlb.find(first.space, iova)) {
                    Ok(Some(found)) => {
                        walked = true;
                        found
                    }
                    failed => {
                        if let Some(hazard) = way {
                            self.hazard(hazard);
                        }
                        let lost =
                            WalkFault::of(first, EventKind::F_TRANSLATION, first.start_level, iova);
                        return Err(failed.err().unwrap_or(lost));
                    }
                }
            }
        };
        let (key, line) = &found;
        // A walk through nothing stale has found what memory holds.
        let clean = walked && way.is_none() && self.hazards.is_empty();
        let stale = match clean {
            true => None,
            false => self.stale_line(ram, stream, stages, key, line, iova).or(way),
        };
        // An SMMU may use any line that matches.
        let stale = stale.or_else(|| {
            let mut others = self.tlb.matching(first.space, iova).filter(|(other, _)| other != key);
            others.find_map(|(key, line)| self.stale_line(ram, stream, stages, &key, line, iova))
        });
        if let Some(hazard) = stale {
            self.hazard(hazard);
        }
        Ok(found)
    }

    /// A fault of a stage: the transaction stalls, or it ends and the event is recorded.
    fn fault(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
        access: DmaAccess,
        fault: WalkFault,
    ) -> NoPassage {
        // The SMMU always records the event of a stall (3.12.2).
        let stalls = fault.kind.is_translation_fault() && fault.stalls;
        let class = match fault.kind {
            // 7.3.12: unlike other faults of stage 1, that of a descriptor's fetch.
            EventKind::F_WALK_EABT => EventClass::Tt,
            _ => EventClass::In,
        };
        let mut event = event_of(fault.kind, source)
            .with_access(Iova(iova), access == DmaAccess::Read)
            .with_class(class);
        if let Some(at) = fault.stage2 {
            event = event.with_class(at.class).with_stage2(at.ipa);
            if fault.kind == EventKind::F_PERMISSION && at.class == EventClass::Tt {
                // The SMMU only reads tables. The value fits its field.
                event = event.with(TTRNW, 1).unwrap_or(event);
            }
        }
        if let Some(fetch) = fault.fetch {
            event.0[3] = fetch.0;
        }
        if stalls {
            return NoPassage::Stalls(event);
        }
        if fault.kind.is_translation_fault() && !fault.records {
            self.leave_out(event);
        } else {
            self.record(ram, event);
        }
        NoPassage::Refused
    }
}

/// The transaction skips stage 1, by its STE or by `S1DSS`.
pub(crate) fn skips_stage1(treatment: &Treatment) -> bool {
    match treatment {
        Treatment::Abort => false,
        Treatment::Bypass => true,
        Treatment::Translate(stages) => stages.first.stage == WalkStage::Two,
    }
}

fn refusal_event(source: Requester, refusal: &Refusal) -> EventRecord {
    let mut event = event_of(refusal.kind, source);
    if let Some(fetch) = refusal.fetch {
        event.0[3] = fetch.0;
    }
    event
}

/// A record with the StreamID and, where the kind has it, the SubstreamID of a transaction.
pub(crate) fn event_of(kind: EventKind, source: Requester) -> EventRecord {
    let event = EventRecord::new(kind, source.stream);
    match (kind, source.substream) {
        // 7.3.7 and 7.3.8: these records have no SubstreamID.
        (EventKind::F_STREAM_DISABLED | EventKind::F_TRANSL_FORBIDDEN, _) | (_, None) => event,
        (_, Some(substream)) => event.with_substream(substream),
    }
}
