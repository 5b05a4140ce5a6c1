//! Compares the ATCs of devices with the STEs, CDs and tables in memory.

use smmu_types::{AtcScope, AtcSpan, Command, Iova, PhysAddr, StreamId};

use crate::config::treatment::Treatment;
use crate::dma::ats::Gives;
use crate::dma::ats_device::{AtcEntry, AtcKey};
use crate::dma::fetch::ste_in_memory;
use crate::hazard::{Hazard, Now, Permissions};
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::walk::in_memory::walk;
use crate::walk::table_walk::TableWalk;

impl ModelSmmu {
    /// A hazard for each entry of an ATC that its device can use and that memory does not hold.
    pub(crate) fn stale_atcs(&self, ram: &ModelRam) -> Vec<Hazard> {
        let mut found = Vec::new();
        for (stream, device) in &self.devices {
            let stream = StreamId(*stream);
            if !device.on || !self.lets_translated_pass(ram, stream) {
                continue;
            }
            for (key, entry) in device.entries() {
                found.extend(self.audit_atc(ram, stream, key, entry));
            }
        }
        found
    }

    /// The hazard at the first address at which an entry is stale.
    fn audit_atc(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        key: &AtcKey,
        entry: &AtcEntry,
    ) -> Option<Hazard> {
        let mut at = key.base;
        loop {
            let (hazard, shift) = self.judge_atc(ram, stream, key, entry, at);
            // A block may have become pages: compare with each of them.
            let last = at | ((1 << shift) - 1);
            if hazard.is_some() || last >= key.last() {
                return hazard;
            }
            at = last + 1;
        }
    }

    /// The hazard of an entry at one address.
    pub(crate) fn stale_atc(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        key: &AtcKey,
        entry: &AtcEntry,
        at: u64,
    ) -> Option<Hazard> {
        self.judge_atc(ram, stream, key, entry, at).0
    }

    /// What the SMMU would tell a device of a walk.
    fn as_given(&self, ram: &ModelRam, stream: StreamId, fresh: &TableWalk, at: u64) -> Now {
        let ste = ste_in_memory(ram, &self.stream_table(), stream).ok();
        match (ste.map(|ste| self.gives(&ste)), fresh.now(at)) {
            (Some(Gives::Ipa), Now::Page { permissions, .. }) => {
                let stage1 = fresh.result.as_ref().ok().and_then(|mapping| mapping.stage1);
                let within = at & ((1 << fresh.shift()) - 1);
                let address = PhysAddr(stage1.map_or(at, |stage1| stage1.ipa | within));
                Now::Page { address, permissions }
            }
            (_, now) => now,
        }
    }

    /// The hazard, and log2 of the bytes for which it holds.
    fn judge_atc(
        &self,
        ram: &ModelRam,
        stream: StreamId,
        key: &AtcKey,
        entry: &AtcEntry,
        at: u64,
    ) -> (Option<Hazard>, u32) {
        let substream = key.substream;
        let source = Requester { stream, substream };
        let (now, shift) = match self.current_configuration(ram, source) {
            Ok(Treatment::Abort) => (Now::Abort, key.shift),
            Ok(Treatment::Bypass) => {
                let permissions = Permissions { read: true, write: true };
                let address = PhysAddr(at);
                (Now::Page { address, permissions }, key.shift)
            }
            Ok(Treatment::Translate(stages)) => {
                let fresh = walk(ram, &stages, at);
                let now = self.as_given(ram, stream, &fresh, at);
                (now, fresh.shift().min(key.shift))
            }
            Err(refusal) => (Now::Fault(refusal.kind), key.shift),
        };
        let reached = entry.at(key, at);
        if let Now::Page { address, permissions } = now
            && address == reached
            && (permissions.read || !entry.permissions.read)
            && (permissions.write || !entry.permissions.write)
        {
            return (None, shift);
        }
        let iova = Iova(at);
        let missing = Command::AtcInv {
            stream,
            substream,
            scope: AtcScope::Substream,
            span: AtcSpan::covering(iova, iova),
        };
        let smmu = self.index;
        let hazard = Hazard::StaleAtc { smmu, stream, substream, iova, reached, now, missing };
        (Some(hazard), shift)
    }
}
