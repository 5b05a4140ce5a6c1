//! A transaction of a device: configuration, lookup, output address or event.

use smmu_types::regs::cr2;
use smmu_types::{EventClass, EventKind, EventRecord, Iova, Ipa, PhysAddr, StreamId};

use crate::config::treatment::{Refusal, Treatment};
use crate::hazard::Permissions;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
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
    fn allowed(self, permissions: Permissions) -> bool {
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
        stream: StreamId,
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
        let configured = self.configuration(ram, stream);
        if let Some(hazard) = self.stale_configuration(ram, stream) {
            self.hazard(hazard);
        }
        match configured {
            Ok(Treatment::Abort) => Err(NoPassage::Refused),
            Ok(Treatment::Bypass) if iova >> self.profile.output_bits() != 0 => {
                let kind = EventKind::F_ADDR_SIZE;
                let event = EventRecord::new(kind, stream)
                    .with_access(Iova(iova), access == DmaAccess::Read)
                    .with_class(EventClass::In);
                self.record(ram, event);
                Err(NoPassage::Refused)
            }
            Ok(Treatment::Bypass) => Ok(PhysAddr(iova)),
            Ok(Treatment::Translate(t)) => self.look_up(ram, stream, &t, iova, access),
            Err(refusal) => {
                self.refuse(ram, stream, refusal);
                Err(NoPassage::Refused)
            }
        }
    }

    fn refuse(&mut self, ram: &ModelRam, stream: StreamId, refusal: Refusal) {
        if let Some(feature) = refusal.unsupported {
            self.unsupported(stream, feature);
        }
        // The SMMU records `C_BAD_STREAMID` only with `CR2.RECINVSID`.
        let silent = self.regs.cr2 & cr2::RECINVSID == 0;
        if refusal.kind == EventKind::C_BAD_STREAMID && silent {
            return;
        }
        let mut event = EventRecord::new(refusal.kind, stream);
        if let Some(fetch) = refusal.fetch {
            event.0[3] = fetch.0;
        }
        self.record(ram, event);
    }

    fn look_up(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        t: &Translation,
        iova: u64,
        access: DmaAccess,
    ) -> Result<PhysAddr, NoPassage> {
        let fault = |kind| WalkFault { kind, level: t.start_level, fetch: None };
        // Only a walk checks the input size: a cached line serves all that it covers.
        let mut way = None;
        if self.tlb.find(t.space, iova).is_none() {
            way = self.stale_way(ram, stream, t, iova);
            if let Err(fault) = self.walk_and_keep(ram, stream, t, iova) {
                if let Some(hazard) = way {
                    self.hazard(hazard);
                }
                return Err(self.fault(ram, stream, t, iova, access, fault));
            }
        }
        let (key, line) = self.tlb.find(t.space, iova).ok_or(NoPassage::Refused)?;
        if let Some(hazard) = self.stale_line(ram, stream, t, &key, &line, iova).or(way) {
            self.hazard(hazard);
        }
        if !access.allowed(line.permissions) {
            let fault = fault(EventKind::F_PERMISSION);
            return Err(self.fault(ram, stream, t, iova, access, fault));
        }
        Ok(PhysAddr(line.output | iova & (key.size() - 1)))
    }

    /// A fault of a stage: the transaction stalls, or it ends and the event is recorded.
    fn fault(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
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
        let mut event = EventRecord::new(fault.kind, stream)
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
