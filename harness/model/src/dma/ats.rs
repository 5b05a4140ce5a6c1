//! ATS: translation requests, translated transactions, and `ATC_INV` (IHI 0070, 3.9.1).

use smmu_types::fields::events::f_bad_ats_treq::{INPUTADDR, R, SPAN, W};
use smmu_types::regs::{cr0, cr2};
use smmu_types::{
    AtcSpan, AtsMode, Command, EventKind, Iova, PhysAddr, RawCommand, Ste, StreamId, SubstreamId,
};

use crate::cache::tlb::{TlbKey, TlbLine};
use crate::config::cd_table::CdTable;
use crate::config::decode_ste::{Stream, decode_ste, effective_ats};
use crate::config::stream_table::Absent;
use crate::config::treatment::{Refusal, Treatment};
use crate::dma::access::DmaAccess;
use crate::dma::ats_device::AtcKey;
use crate::dma::fetch::ste_in_memory;
use crate::dma::transaction::{event_of, skips_stage1};
use crate::hazard::{Hazard, Permissions};
use crate::injected_fault::InjectedFault;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::profile::WhileAtsOff;
use crate::queue::feed::QueueId;
use crate::requester::Requester;
use crate::walk::translation::Stages;

const BOTH: Permissions = Permissions { read: true, write: true };

/// log2 of the smallest translation unit that a request gets.
const PAGE: u32 = 12;

/// A translation that the SMMU gives to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) key: AtcKey,
    pub(crate) output: u64,
    pub(crate) permissions: Permissions,
}

/// Why a device gets no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFailure {
    /// Unsupported Request: ATS is off for the stream.
    Unsupported,
    /// Completer Abort: the configuration is wrong.
    Aborted,
    /// Success, with R and W = 0: there is no translation.
    NoAccess,
}

/// What an answer to a device holds (5.2, `EATS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    PhysicalAddress,
    /// The output of stage 1: stage 2 translates the transactions that use it (split-stage ATS).
    Ipa,
}

/// Whether a request is of a transaction, or of a prefetch, which records nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Device,
    Prefetch,
}

impl ModelSmmu {
    /// Answer a translation request for reading and writing, and let the device keep the answer.
    pub(crate) fn ats_request(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
    ) -> Result<Granted, RequestFailure> {
        let granted = self.answer(ram, source, iova, Cause::Device);
        self.forget_without_caches();
        let granted = granted?;
        self.keep(source.stream, &granted);
        Ok(granted)
    }

    fn keep(&mut self, stream: StreamId, granted: &Granted) {
        if let Some(device) = self.devices.get_mut(&stream.0) {
            device.insert(granted.key, granted.output, granted.permissions);
        }
    }

    fn answer(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
        cause: Cause,
    ) -> Result<Granted, RequestFailure> {
        if !self.profile.ats {
            return Err(RequestFailure::Unsupported);
        }
        if !self.translates() {
            return Err(self.refuse_request(ram, source, iova, cause));
        }
        let table = self.stream_table();
        let ste = match self.config.ste(ram, &table, source.stream) {
            Ok(ste) => ste,
            Err(absent) => return Err(self.abort(ram, source, Refusal::no_ste(absent), cause)),
        };
        if cause == Cause::Device
            && let Some(hazard) = self.stale_configuration(ram, source)
        {
            self.hazard(hazard);
        }
        match decode_ste(&ste, &self.profile, self.e2h()) {
            Err(bad) => {
                let refusal = Refusal::bad(bad, EventKind::C_BAD_STE);
                return Err(self.abort(ram, source, refusal, cause));
            }
            Ok(Stream::Abort) => return Err(RequestFailure::Unsupported),
            Ok(_) if self.effective_ats(&ste) == AtsMode::Off => {
                return Err(self.refuse_request(ram, source, iova, cause));
            }
            Ok(_) => {}
        }
        match self.configuration(ram, source) {
            // 3.9.1.2: also where stage 2 has no translation for the fetch of a CD.
            Err(refusal) if refusal.kind.is_translation_fault() => Err(RequestFailure::NoAccess),
            Err(refusal) => Err(self.abort(ram, source, refusal, cause)),
            Ok(Treatment::Abort) => Err(RequestFailure::Unsupported),
            Ok(treatment) if skips_stage1(&treatment) && self.is_too_large(iova) => {
                Err(RequestFailure::NoAccess)
            }
            // 13.6.4: S1DSS skips stage 1, so the answer is the address itself.
            Ok(Treatment::Bypass) => {
                let key = AtcKey::of(source.substream, PAGE, iova);
                Ok(Granted { key, output: key.base, permissions: BOTH })
            }
            Ok(Treatment::Translate(stages)) => {
                match self.find_or_walk(ram, source, &stages, iova, BOTH) {
                    Ok((key, line)) => granted(source.substream, &key, &line, self.gives(&ste)),
                    Err(fault) if fault.kind == EventKind::F_WALK_EABT => {
                        let refusal = Refusal::no_cd(Absent::Fault(fault));
                        Err(self.abort(ram, source, refusal, cause))
                    }
                    Err(_) => Err(RequestFailure::NoAccess),
                }
            }
        }
    }

    /// Refuse a request to a stream without ATS: UR and `F_BAD_ATS_TREQ`.
    fn refuse_request(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        iova: u64,
        cause: Cause,
    ) -> RequestFailure {
        if cause == Cause::Device {
            let mut event = event_of(EventKind::F_BAD_ATS_TREQ, source);
            // One translation unit, for reading and writing. These values fit their fields.
            let fields = [(SPAN, 1), (R, 1), (W, 1), (INPUTADDR, iova & !0xfff)];
            for (field, value) in fields {
                event = event.with(field, value).unwrap_or(event);
            }
            self.record(ram, event);
        }
        RequestFailure::Unsupported
    }

    /// Abort a request: CA, and an event only with `CR2.REC_CFG_ATS`.
    fn abort(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        refusal: Refusal,
        cause: Cause,
    ) -> RequestFailure {
        if cause == Cause::Device {
            if let Some(feature) = refusal.unsupported {
                self.unsupported(source.stream, feature);
            }
            let all = cr2::REC_CFG_ATS | cr2::RECINVSID;
            let asked = match refusal.kind {
                EventKind::C_BAD_STREAMID => self.regs.cr2 & all == all,
                _ => self.regs.cr2 & cr2::REC_CFG_ATS != 0,
            };
            if asked {
                self.record_refusal(ram, source, refusal);
            }
        }
        RequestFailure::Aborted
    }

    /// The output address of a translated transaction, or `None` if the SMMU refuses it. `address`
    /// is what the device's ATC holds.
    pub(crate) fn translated(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        address: PhysAddr,
        access: DmaAccess,
    ) -> Option<PhysAddr> {
        let translated = self.translated_by_caches(ram, source, address, access);
        self.forget_without_caches();
        translated
    }

    fn translated_by_caches(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        address: PhysAddr,
        access: DmaAccess,
    ) -> Option<PhysAddr> {
        if !self.translates() {
            return self.forbid(ram, source, address, access);
        }
        // 3.9.1.1: the SMMU aborts an address beyond OAS, and records nothing.
        let passes = (!self.is_too_large(address.0)).then_some(address);
        if self.regs.cr0 & cr0::ATSCHK == 0 {
            return passes;
        }
        let table = self.stream_table();
        let ste = self.config.ste(ram, &table, source.stream);
        if let Some(hazard) =
            self.stale_l1(ram, source.stream).or_else(|| self.stale_ste(ram, source.stream))
        {
            self.hazard(hazard);
        }
        let refusal = match ste {
            Err(absent) => Refusal::no_ste(absent),
            Ok(ste) => match decode_ste(&ste, &self.profile, self.e2h()) {
                Ok(Stream::Abort) => return None,
                Ok(_) if self.effective_ats(&ste) == AtsMode::Off => {
                    return self.forbid(ram, source, address, access);
                }
                // Only a nested STE has split-stage ATS: what the device holds is an IPA.
                Ok(Stream::Stage1 { cds: CdTable { second: Some(second), .. }, .. })
                    if self.gives(&ste) == Gives::Ipa =>
                {
                    let (source, stages) = (source.stream.into(), Stages::one(second));
                    return self.look_up(ram, source, &stages, address.0, access).ok();
                }
                Ok(_) => return passes,
                Err(bad) => Refusal::bad(bad, EventKind::C_BAD_STE),
            },
        };
        // 3.9.1.3: RECINVSID does not matter here.
        if self.regs.cr2 & cr2::REC_CFG_ATS != 0 {
            self.record_refusal(ram, source.stream.into(), refusal);
        }
        None
    }

    /// The effective `EATS` of an STE that the SMMU does not refuse.
    fn effective_ats(&self, ste: &Ste) -> AtsMode {
        match effective_ats(ste, &self.profile) {
            // 3.9.1.2: split-stage ATS is off without `ATSCHK`.
            AtsMode::Split if self.regs.cr0 & cr0::ATSCHK == 0 => AtsMode::Off,
            mode => mode,
        }
    }

    /// What a device gets as a translation.
    pub(crate) fn gives(&self, ste: &Ste) -> Gives {
        match self.effective_ats(ste) {
            AtsMode::Split => Gives::Ipa,
            _ => Gives::PhysicalAddress,
        }
    }

    fn forbid(
        &mut self,
        ram: &ModelRam,
        source: Requester,
        address: PhysAddr,
        access: DmaAccess,
    ) -> Option<PhysAddr> {
        let event = event_of(EventKind::F_TRANSL_FORBIDDEN, source)
            .with_access(Iova(address.0), access == DmaAccess::Read);
        self.record(ram, event);
        None
    }

    /// Whether the SMMU lets translated transactions of a stream pass: by its cached STE, or by the
    /// one in memory if none is cached.
    pub(crate) fn lets_translated_pass(&self, ram: &ModelRam, stream: StreamId) -> bool {
        if self.regs.cr0 & cr0::ATSCHK == 0 {
            return self.translates();
        }
        let cached = self.config.stes.get(&stream.0).copied();
        let ste = cached.or_else(|| ste_in_memory(ram, &self.stream_table(), stream).ok());
        let passes = |ste: &Ste| {
            let legal = decode_ste(ste, &self.profile, self.e2h()).is_ok();
            legal && self.effective_ats(ste) != AtsMode::Off
        };
        self.translates() && ste.is_some_and(|ste| passes(&ste))
    }

    /// Carry out an `ATC_INV`, or with [`Profile::until_sync`](crate::Profile::until_sync) all but its
    /// effect. Returns whether the device answers in time.
    pub(crate) fn atc_inv(
        &mut self,
        ram: &ModelRam,
        queue: QueueId,
        stream: StreamId,
        substream: Option<SubstreamId>,
        span: AtcSpan,
    ) -> bool {
        let ignored = self.ignores_atc_inv(substream);
        let never = self.faults_of(queue).contains(&InjectedFault::AtcTimeout { stream });
        let silent = self.profile.while_ats_off == WhileAtsOff::NeverAnswers;
        let Some(device) = self.devices.get_mut(&stream.0) else { return !never };
        if ignored {
            return true;
        }
        device.waits(queue);
        if never || silent && !device.on {
            return false;
        }
        if !self.profile.until_sync {
            self.drop_from_atc(ram, stream, substream, span);
        }
        true
    }

    /// 4.5.1: ignored while SMMUEN is 0. A SubstreamID needs an SMMU that has them.
    fn ignores_atc_inv(&self, substream: Option<SubstreamId>) -> bool {
        !self.translates() || substream.is_some() && self.profile.substream_bits == 0
    }

    /// The device drops what an `ATC_INV` covers, unless the SMMU ignores it.
    pub(crate) fn drop_from_atc(
        &mut self,
        ram: &ModelRam,
        stream: StreamId,
        substream: Option<SubstreamId>,
        span: AtcSpan,
    ) {
        if self.ignores_atc_inv(substream) {
            return;
        }
        let Some(device) = self.devices.get_mut(&stream.0) else { return };
        let (gone, on) = (device.invalidate(substream, span), device.on);
        if self.profile.prefetch && on {
            for key in gone {
                self.ask_again(ram, stream, &key);
            }
        }
    }

    /// A device asks again for what it lost. A TLBI before the last `CMD_SYNC` may not be complete:
    /// the answer may come from a line that it dropped (4.5.1).
    fn ask_again(&mut self, ram: &ModelRam, stream: StreamId, key: &AtcKey) {
        let source = Requester { stream, substream: key.substream };
        let space = match self.cached_configuration(ram, source) {
            Some(Treatment::Translate(stages)) => Some(stages.first.space),
            _ => None,
        };
        let ste = self.config.stes.get(&stream.0);
        let gives = ste.map_or(Gives::PhysicalAddress, |ste| self.gives(ste));
        let old = space.and_then(|space| {
            let dropped = self.unsynced.iter().find(|(line, _)| {
                (line.space == space || line.space == space.global())
                    && line.base <= key.base
                    && key.base - line.base < line.size()
            });
            dropped.and_then(|(line, old)| granted(key.substream, line, old, gives).ok())
        });
        let answer = match old {
            Some(old) if self.lets_translated_pass(ram, stream) => Some(old),
            _ => self.quietly(|smmu| smmu.answer(ram, source, key.base, Cause::Prefetch).ok()),
        };
        if let Some(answer) = answer {
            self.keep(stream, &answer);
        }
    }

    /// A device asks for a translation that it does not need yet, and keeps the answer.
    pub(crate) fn ask_ahead(&mut self, ram: &ModelRam, source: Requester, iova: u64) {
        let answer = self.quietly(|smmu| smmu.answer(ram, source, iova, Cause::Prefetch).ok());
        if let Some(answer) = answer {
            self.keep(source.stream, &answer);
        }
    }

    /// A `CMD_SYNC` of a queue completed, or found that a device has not answered.
    pub(crate) fn synced(&mut self, queue: QueueId) {
        self.unsynced.clear();
        for device in self.devices.values_mut() {
            device.waited(queue);
        }
    }

    /// Turn the ATS of a device on or off.
    pub(crate) fn switch_ats(&mut self, ram: &ModelRam, stream: StreamId, on: bool) {
        let device = self.devices.entry(stream.0).or_default();
        let was_on = std::mem::replace(&mut device.on, on);
        if on || !was_on {
            return;
        }
        let mut outstanding = false;
        for queue in self.command_queues() {
            let sent = self.devices.get(&stream.0).is_some_and(|d| d.is_outstanding(queue));
            outstanding |= sent || self.has_queued(ram, queue, stream);
            if sent && self.profile.while_ats_off == WhileAtsOff::NeverAnswers {
                self.time_out(queue);
            }
        }
        if outstanding {
            let (smmu, missing) = (self.index, Command::SYNC);
            self.hazard(Hazard::AtcInvOutstanding { smmu, stream, missing });
        }
    }

    /// Whether a queue holds an `ATC_INV` of a stream that the SMMU has not consumed yet.
    fn has_queued(&self, ram: &ModelRam, queue: QueueId, stream: StreamId) -> bool {
        self.queued(queue).any(|slot| {
            let raw = ram.read_words(slot).map(RawCommand);
            matches!(
                raw.map(Command::interpret),
                Some(Command::AtcInv { stream: of, .. }) if of == stream
            )
        })
    }
}

/// The answer that a line of the TLB gives.
fn granted(
    substream: Option<SubstreamId>,
    key: &TlbKey,
    line: &TlbLine,
    gives: Gives,
) -> Result<Granted, RequestFailure> {
    let permissions = line.permissions;
    let output = match (gives, line.stage1) {
        (Gives::PhysicalAddress, _) => line.output,
        (Gives::Ipa, Some(stage1)) => stage1.ipa,
        // The transaction skips stage 1.
        (Gives::Ipa, None) => key.base,
    };
    if !permissions.read && !permissions.write {
        return Err(RequestFailure::NoAccess);
    }
    let key = AtcKey::of(substream, key.size().trailing_zeros(), key.base);
    Ok(Granted { key, output, permissions })
}
