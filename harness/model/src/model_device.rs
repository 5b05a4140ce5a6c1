//! A device behind a modelled SMMU: DMA with a SubstreamID, its ATC, and its ATS switch.

use std::fmt;
use std::sync::Arc;

use smmu_types::{Iova, PhysAddr, StreamId, SubstreamId};

use crate::dma::access::DmaAccess;
use crate::dma::ats::RequestFailure;
use crate::dma_refused::DmaRefused;
use crate::hazard::Permissions;
use crate::machine::SharedModel;
use crate::model_ram::ModelRam;
use crate::model_smmu::ModelSmmu;
use crate::requester::Requester;
use crate::waiting::stalls::{DmaProgress, Transaction};

/// The ATS switch of a device (`E` of the ATS Control register of PCIe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtsSwitch {
    /// The device sends no translation requests and does not use its ATC.
    Off,
    /// The device may use ATS.
    On,
}

/// A translation that the SMMU gave to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtsTranslation {
    /// First input address.
    pub iova: Iova,
    /// First output address.
    pub address: PhysAddr,
    /// Bytes, a power of two.
    pub bytes: u64,
    /// The accesses that the device may do.
    pub permissions: Permissions,
}

/// Why a translation request got no translation (IHI 0070, 3.9.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtsRequestFailure {
    /// The device's own switch is off, so it sent nothing.
    #[error("the device's ATS is off; turn it on with switch_ats")]
    SwitchedOff,
    /// Unsupported Request: ATS is off for the stream, or translation is off.
    #[error("the SMMU answered Unsupported Request: ATS is off for the stream")]
    Unsupported,
    /// Completer Abort: the configuration of the stream is wrong.
    #[error("the SMMU answered Completer Abort: the configuration of the stream is wrong")]
    Aborted,
    /// Success without permissions: there is no translation. Such an answer is not cached.
    #[error("the SMMU grants no access at this address")]
    NoAccess,
}

/// Why a DMA through the ATC did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtsDmaFailure {
    /// The device has no translation, and got none.
    #[error("the device got no translation: {0}")]
    Request(#[from] AtsRequestFailure),
    /// The translation does not allow this access.
    #[error("the translation does not allow this access")]
    NotPermitted,
    /// The SMMU refused the translated transaction, or no RAM lies at its address.
    #[error("the translated transaction was refused")]
    Refused,
}

/// A device behind an SMMU, with the SubstreamID of its transactions. Clones are the same device.
///
/// ```
/// use smmu_model::smmu_types::{StreamId, SubstreamId};
/// use smmu_model::{AtsDmaFailure, AtsRequestFailure, AtsSwitch, Model, Profile};
///
/// let profile = Profile { ats: true, substream_bits: 8, two_level_cd: true, ..Profile::default() };
/// let model = Model::new(0x10000, &[profile]);
/// let device = model.device(0, StreamId(8));
/// // The same device, in transactions with SubstreamID 3.
/// let process = device.with_substream(SubstreamId::new(3).expect("3 has at most 20 bits"));
///
/// // Untranslated: the SMMU, still off, lets the address pass.
/// assert_eq!(process.write32(0x4000_1000, 7), Ok(()));
/// assert_eq!(device.read32(0x4000_1000), Ok(7));
///
/// // Through the ATC alone: an SMMU that is off gives no translation.
/// device.switch_ats(AtsSwitch::On);
/// let refused = Err(AtsDmaFailure::Request(AtsRequestFailure::Unsupported));
/// assert_eq!(process.ats_write32(0x4000_1000, 8), refused);
/// ```
///
/// # ATS
///
/// A device has an ATC once [`switch_ats`](Self::switch_ats) has turned it on. It keeps each
/// translation until an `ATC_INV` drops it, also while the switch is off. With
/// [`Profile::prefetch`](crate::Profile::prefetch) it asks again at once for what it lost.
#[derive(Clone)]
pub struct ModelDevice {
    shared: Arc<SharedModel>,
    smmu: usize,
    source: Requester,
}

impl fmt::Debug for ModelDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModelDevice { shared: _, smmu, source } = self;
        let mut debug = f.debug_struct("ModelDevice");
        debug.field("smmu", smmu).field("source", source).finish_non_exhaustive()
    }
}

impl ModelDevice {
    pub(crate) fn new(shared: Arc<SharedModel>, smmu: usize, stream: StreamId) -> Self {
        ModelDevice { shared, smmu, source: stream.into() }
    }

    /// The same device, in transactions with a SubstreamID.
    #[must_use]
    pub fn with_substream(&self, substream: SubstreamId) -> Self {
        let source = Requester { substream: Some(substream), ..self.source };
        ModelDevice { shared: Arc::clone(&self.shared), smmu: self.smmu, source }
    }

    /// The device writes 4 bytes at an untranslated address. The model ignores bits 1:0 of `iova`.
    ///
    /// # Errors
    ///
    /// The SMMU refused the access or stalls it, no RAM lies at its output address, or there is no
    /// such SMMU.
    pub fn write32(&self, iova: u64, value: u32) -> Result<(), DmaRefused> {
        match self.start_write32(iova, value) {
            DmaProgress::Written => Ok(()),
            _ => Err(DmaRefused),
        }
    }

    /// The device reads 4 bytes at an untranslated address. The model ignores bits 1:0 of `iova`.
    ///
    /// # Errors
    ///
    /// The SMMU refused the access or stalls it, no RAM lies at its output address, or there is no
    /// such SMMU.
    pub fn read32(&self, iova: u64) -> Result<u32, DmaRefused> {
        match self.start_read32(iova) {
            DmaProgress::Read(value) => Ok(value),
            _ => Err(DmaRefused),
        }
    }

    /// The device begins to write 4 bytes at an untranslated address. The write may stall:
    /// [`Model::progress`](crate::Model::progress) says what becomes of it.
    #[must_use]
    pub fn start_write32(&self, iova: u64, value: u32) -> DmaProgress {
        self.shared.start(self.smmu, Transaction::write(self.source, iova, value))
    }

    /// The device begins to read 4 bytes, as [`start_write32`](Self::start_write32) writes.
    #[must_use]
    pub fn start_read32(&self, iova: u64) -> DmaProgress {
        self.shared.start(self.smmu, Transaction::read(self.source, iova))
    }

    /// Turn the ATS of the device on or off, for all its substreams. The ATC keeps its entries.
    ///
    /// Off while an `ATC_INV` to the device waits for its `CMD_SYNC` is a
    /// [hazard](crate::Hazard::AtcInvOutstanding).
    pub fn switch_ats(&self, switch: AtsSwitch) {
        self.shared.act(self.smmu, |smmu, ram| {
            smmu.switch_ats(ram, self.source.stream, switch == AtsSwitch::On);
        });
    }

    /// Turn the page requests of the device on or off, for all its substreams. While they are off, the
    /// model drops what [`Model::page_request`](crate::Model::page_request) sends for the stream.
    /// Responses still arrive. Before the first call they are on.
    pub fn switch_page_requests(&self, switch: AtsSwitch) {
        self.shared.act(self.smmu, |smmu, _| {
            let device = smmu.devices.entry(self.source.stream.0).or_default();
            device.asks = Some(switch == AtsSwitch::On);
        });
    }

    /// Request a translation for reading and writing, and keep it in the ATC.
    ///
    /// # Errors
    ///
    /// The device's ATS is off, or the SMMU gives no translation.
    pub fn ats_request(&self, iova: u64) -> Result<AtsTranslation, AtsRequestFailure> {
        let answer = self.shared.act(self.smmu, |smmu, ram| request(smmu, ram, self.source, iova));
        answer.unwrap_or(Err(AtsRequestFailure::SwitchedOff))
    }

    /// The device writes 4 bytes through its ATC alone: it requests a translation if it has none,
    /// and sends a translated transaction. The model ignores bits 1:0 of `iova`.
    ///
    /// # Errors
    ///
    /// The device's ATS is off, the SMMU gives no translation or refuses the translated
    /// transaction, or no RAM lies at its address.
    pub fn ats_write32(&self, iova: u64, value: u32) -> Result<(), AtsDmaFailure> {
        let written = self.shared.act(self.smmu, |smmu, ram| {
            let address = through_atc(smmu, ram, self.source, iova & !3, DmaAccess::Write)?;
            ram.write32(address, value).ok_or(AtsDmaFailure::Refused)
        });
        written.unwrap_or(Err(AtsDmaFailure::Refused))
    }

    /// The device reads 4 bytes through its ATC alone, as [`ats_write32`](Self::ats_write32) writes.
    ///
    /// # Errors
    ///
    /// As for [`ats_write32`](Self::ats_write32).
    pub fn ats_read32(&self, iova: u64) -> Result<u32, AtsDmaFailure> {
        let read = self.shared.act(self.smmu, |smmu, ram| {
            let address = through_atc(smmu, ram, self.source, iova & !3, DmaAccess::Read)?;
            ram.read32(address).ok_or(AtsDmaFailure::Refused)
        });
        read.unwrap_or(Err(AtsDmaFailure::Refused))
    }

    /// The entries of the ATC, of all substreams, with the substream of each.
    #[must_use]
    pub fn atc_entries(&self) -> Vec<(Option<SubstreamId>, AtsTranslation)> {
        let entries = self.shared.act(self.smmu, |smmu, _| {
            let device = smmu.devices.get(&self.source.stream.0)?;
            let entries = device.entries().map(|(key, entry)| {
                let translation = AtsTranslation {
                    iova: Iova(key.base),
                    address: PhysAddr(entry.output),
                    bytes: 1 << key.shift,
                    permissions: entry.permissions,
                };
                (key.substream, translation)
            });
            Some(entries.collect())
        });
        entries.flatten().unwrap_or_default()
    }
}

fn request(
    smmu: &mut ModelSmmu,
    ram: &ModelRam,
    source: Requester,
    iova: u64,
) -> Result<AtsTranslation, AtsRequestFailure> {
    if !smmu.devices.get(&source.stream.0).is_some_and(|device| device.on) {
        return Err(AtsRequestFailure::SwitchedOff);
    }
    match smmu.ats_request(ram, source, iova) {
        Ok(granted) => Ok(AtsTranslation {
            iova: Iova(granted.key.base),
            address: PhysAddr(granted.output),
            bytes: 1 << granted.key.shift,
            permissions: granted.permissions,
        }),
        Err(RequestFailure::Unsupported) => Err(AtsRequestFailure::Unsupported),
        Err(RequestFailure::Aborted) => Err(AtsRequestFailure::Aborted),
        Err(RequestFailure::NoAccess) => Err(AtsRequestFailure::NoAccess),
    }
}

/// The address of a DMA that goes through the ATC.
fn through_atc(
    smmu: &mut ModelSmmu,
    ram: &ModelRam,
    source: Requester,
    iova: u64,
    access: DmaAccess,
) -> Result<PhysAddr, AtsDmaFailure> {
    let stream = source.stream;
    let device = smmu.devices.get_mut(&stream.0).filter(|device| device.on);
    let device = device.ok_or(AtsRequestFailure::SwitchedOff)?;
    // A device that lacks a permission asks again.
    if let Some((key, entry)) = device.find(source.substream, iova)
        && !access.allowed(entry.permissions)
    {
        device.forget(&key);
    }
    if device.find(source.substream, iova).is_none() {
        request(smmu, ram, source, iova)?;
    }
    let found = smmu.devices.get(&stream.0).and_then(|d| d.find(source.substream, iova));
    let (key, entry) = found.ok_or(AtsRequestFailure::NoAccess)?;
    if !access.allowed(entry.permissions) {
        return Err(AtsDmaFailure::NotPermitted);
    }
    let address = entry.at(&key, iova);
    let passed = smmu.translated(ram, source, address, access).ok_or(AtsDmaFailure::Refused)?;
    if let Some(hazard) = smmu.stale_atc(ram, stream, &key, &entry, iova) {
        smmu.hazard(hazard);
    }
    Ok(passed)
}
