//! A transaction of a device: configuration, lookup, output address or event.

use smmu_types::regs::cr2;
use smmu_types::{EventClass, EventKind, EventRecord, Iova, Ipa, PhysAddr};

use crate::cache::tlb::{TlbKey, TlbLine};
use crate::config::treatment::{Refusal, Treatment};
use crate::hazard::Permissions;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::table_walk::WalkFault;
use crate::walk::translation::{Translation, WalkStage};

/// Why a transaction does not pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoPassage {
    /// The SMMU refused it.
    Refused,
    /// It stalls. The event has no tag yet, and is not recorded.
    Stalls(EventRecord),
}

/// Direction of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DmaAccess {
    Read,
    Write,
}

impl DmaAccess {
    pub(crate) fn allowed(self, permissions: Permissions) -> bool {
        match self {
            DmaAccess::Read => permissions.read,
            DmaAccess::Write => permissions.write,
        }
    }
}

impl ModelSmmu {
    /// The output address of an access.
    pub(crate) fn translate(
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
            Ok(Treatment::Bypass) if iova >> self.profile.output_bits() != 0 => {
                let kind = EventKind::F_ADDR_SIZE;
                let event = event_of(kind, source)
                    .with_access(Iova(iova), access == DmaAccess::Read)
                    .with_class(EventClass::In);
                self.record(ram, event);
                Err(NoPassage::Refused)
            }
            Ok(Treatment::Bypass) => Ok(PhysAddr(iova)),
            Ok(Treatment::Translate(t)) => self.look_up(ram, source, &t, iova, access),
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
            return;
        }
        self.record_refusal(ram, source, refusal);
    }

    pub(crate) fn record_refusal(&mut self, ram: &ModelRam, source: Requester, refusal: Refusal) {
        let mut event = event_of(refusal.kind, source);
        if let Some(fetch) = refusal.fetch {
            event.0[3] = fetch.0;
        }
        self.record(ram, event);
    }

    fn look_up(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        t: &Translation,
        iova: u64,
        access: DmaAccess,
    ) -> Result<PhysAddr, NoPassage> {
        let found = self.find_or_walk(ram, source, t, iova).and_then(|(key, line)| {
            if access.allowed(line.permissions) {
                return Ok(PhysAddr(line.output | iova & (key.size() - 1)));
            }
            Err(WalkFault { kind: EventKind::F_PERMISSION, level: t.start_level, fetch: None })
        });
        found.map_err(|fault| self.fault(ram, source, t, iova, access, fault))
    }

    /// The cached line that translates `iova`, or the one that a walk finds and the cache keeps.
    pub(crate) fn find_or_walk(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        t: &Translation,
        iova: u64,
    ) -> Result<(TlbKey, TlbLine), WalkFault> {
        let stream = source.stream;
        // Only a walk checks the input size: a cached line serves all that it covers.
        let mut way = None;
        let found = match self.tlb.find(t.space, iova) {
            Some(found) => found,
            None => {
                way = self.stale_way(ram, stream, t, iova);
                let walked = self.walk_and_keep(ram, source, t, iova);
                match walked.map(|()| self.tlb.find(t.space, iova)) {
                    Ok(Some(found)) => found,
                    failed => {
                        if let Some(hazard) = way {
                            self.hazard(hazard);
                        }
                        let lost = |kind| WalkFault { kind, level: t.start_level, fetch: None };
                        return Err(failed.err().unwrap_or(lost(EventKind::F_TRANSLATION)));
                    }
                }
            }
        };
        let (key, line) = &found;
        if let Some(hazard) = self.stale_line(ram, stream, t, key, line, iova).or(way) {
            self.hazard(hazard);
        }
        Ok(found)
    }

    /// A fault of a stage: the transaction stalls, or it ends and the event is recorded.
    fn fault(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        t: &Translation,
        iova: u64,
        access: DmaAccess,
        fault: WalkFault,
    ) -> NoPassage {
        // The SMMU always records the event of a stall (3.12.2).
        let stalls = fault.kind.is_translation_fault() && t.stalls;
        if fault.kind.is_translation_fault() && !t.records && !stalls {
            return NoPassage::Refused;
        }
        let mut event = event_of(fault.kind, source)
            .with_access(Iova(iova), access == DmaAccess::Read)
            .with_class(EventClass::In);
        if t.stage == WalkStage::Two {
            event = event.with_stage2(Ipa(iova));
        }
        if let Some(fetch) = fault.fetch {
            event.0[3] = fetch.0;
        }
        if stalls {
            return NoPassage::Stalls(event);
        }
        self.record(ram, event);
        NoPassage::Refused
    }
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
