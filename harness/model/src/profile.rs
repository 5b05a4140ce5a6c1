//! What a modelled SMMU can do.

use smmu_types::{EnhancedQueues, IdRegisters, OutputSize, StallModel, StreamId};

use crate::injected_fault::InjectedFault;

/// A second command queue: a VCMDQ of Tegra241's CMDQV, with its own registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecondQueue {
    /// The queue accepts every command that the main queue accepts.
    Full,
    /// The queue as a guest gets it: it accepts `TLBI_NH_ASID`, `TLBI_NH_VA`, `ATC_INV` and
    /// `CMD_SYNC` only. The model uses their VMIDs and StreamIDs unchanged; a CMDQV replaces them.
    Restricted,
}

/// What a device does with an `ATC_INV` while its ATS is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhileAtsOff {
    /// The device drops the entries and answers.
    #[default]
    Answers,
    /// The device never answers: the next `CMD_SYNC` stops the queue with `CERROR_ATC_INV_SYNC`
    /// (3.9.1.4).
    NeverAnswers,
}

/// The features and sizes of one modelled SMMU, and how eagerly it acts.
///
/// The model computes the ID registers from it. Every feature without a field is absent: hardware
/// update of tables, AArch32 and big-endian tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Stage 1 (`IDR0.S1P`).
    pub stage1: bool,
    /// Stage 2 (`IDR0.S2P`). An SMMU with both stages translates nested streams (`STE.Config` = 7)
    /// and, with ATS, has split-stage ATS (`IDR0.NS1ATS` = 0).
    pub stage2: bool,
    /// EL2 regime (`IDR0.HYP`).
    pub hyp: bool,
    /// Bits of an ASID: 16, or 8 for any smaller value.
    pub asid_bits: u8,
    /// Bits of a VMID: 16, or 8 for any smaller value.
    pub vmid_bits: u8,
    /// Bits of a StreamID; at most 16.
    pub sid_bits: u8,
    /// Range invalidation and level hints (`IDR3.RIL`).
    pub range_invalidation: bool,
    /// The granule of 4 KiB (`IDR5.GRAN4K`). Without it the SMMU refuses each CD, and each STE with
    /// stage 2, that uses this granule.
    pub granule_4k: bool,
    /// The granule of 16 KiB (`IDR5.GRAN16K`).
    pub granule_16k: bool,
    /// The granule of 64 KiB (`IDR5.GRAN64K`).
    pub granule_64k: bool,
    /// Output address size (`IDR5.OAS`).
    pub output_size: OutputSize,
    /// Two-level stream tables (`IDR0.ST_LEVEL`).
    pub two_level: bool,
    /// The SMMU snoops the caches of the CPUs (`IDR0.COHACC`). The model reads the memory that it is
    /// given in either case.
    pub coherent: bool,
    /// ATS (`IDR0.ATS`): the SMMU answers translation requests and accepts `ATC_INV`. A device has an
    /// ATC once [`ModelDevice::switch_ats`](crate::ModelDevice::switch_ats) has turned it on.
    pub ats: bool,
    /// More events of ATS requests and translated transactions, on request of `CR2.REC_CFG_ATS`
    /// (`IDR0.ATSRECERR`).
    pub ats_errors: bool,
    /// What a device does with an `ATC_INV` while its ATS is off.
    pub while_ats_off: WhileAtsOff,
    /// Bits of a SubstreamID (`IDR1.SSIDSIZE`), at most 20; 0 for an SMMU without substreams.
    pub substream_bits: u8,
    /// Two-level tables of CDs (`IDR0.CD2L`).
    pub two_level_cd: bool,
    /// MSIs of `CMD_SYNC`, global errors and the event queue (`IDR0.MSI`).
    pub msi: bool,
    /// A `CMD_SYNC` may complete with an event (`IDR0.SEV`). The model sends none: no CPU waits
    /// in `WFE` here.
    pub sev: bool,
    /// Whether faults stall (`IDR0.STALL_MODEL`). A stalled transaction that is terminated is aborted:
    /// `IDR0.TERM_MODEL` is 1.
    pub stall_model: StallModel,
    /// Transactions that are stalled and recorded at a time, at most (`IDR5.STALL_MAX`). Further ones
    /// wait unrecorded.
    pub stall_max: u16,
    /// Page requests (`IDR0.PRI`).
    pub pri: bool,
    /// A second command queue. [`cmdq_log2`](Self::cmdq_log2) limits its size as well.
    pub second_queue: Option<SecondQueue>,
    /// Enhanced command queues (`IDR1.ECMDQ`): at most 2^4 control pages of 2^8 queues.
    /// [`cmdq_log2`](Self::cmdq_log2) limits their size as well. `AIDR` does not change.
    pub enhanced_queues: Option<EnhancedQueues>,
    /// log2 of the largest command queue; at most 19.
    pub cmdq_log2: u8,
    /// log2 of the largest event queue; at most 19.
    pub eventq_log2: u8,
    /// log2 of the largest PRI queue; at most 19.
    pub priq_log2: u8,
    /// Commands that the SMMU carries out at each read of a queue's `CONS`; 0 stops the queue.
    pub consume_per_poll: u32,
    /// The SMMU keeps what it has fetched until a command removes it. Without caches it keeps nothing:
    /// each transaction fetches configuration and walks tables. It fetches nothing ahead, and no
    /// invalidation is ever missing. An ATC belongs to its device, and stays.
    pub caches: bool,
    /// The SMMU fetches again at once what an invalidation drops, as a prefetcher may.
    pub prefetch: bool,
    /// Streams whose STE, and first CD, the SMMU fetches ahead of any need: when it begins to
    /// translate, and after each command. So an invalidation that is forgotten is a hazard also if
    /// the device has done no DMA.
    pub ahead: Vec<StreamId>,
    /// At each [`Model::audit`](crate::Model::audit) the SMMU also fetches every translation that the
    /// tables of the streams of [`ahead`](Self::ahead) hold, and a device whose ATS is on asks for
    /// each. So what is cached is all that could be.
    pub translations_ahead: bool,
    /// The caches hold at reset what no driver knows, as the architecture allows (3.11). A driver that
    /// sets `CR0.SMMUEN` before a completed `CFGI_ALL` and `TLBI_NSNH_ALL`, and `TLBI_EL2_ALL` with
    /// [`hyp`](Self::hyp), gets a [`Hazard::UnknownCaches`](crate::Hazard::UnknownCaches).
    pub unknown_at_reset: bool,
    /// A `CFGI`, `TLBI` or `ATC_INV` takes effect no earlier than the next `CMD_SYNC` of its queue, the
    /// first moment at which the architecture guarantees it (4.7.3).
    pub until_sync: bool,
    /// The SMMU reads the 64-bit words of an STE or CD at any time between two invalidations, in any
    /// order (3.21.3). A driver that changes more than one used word without an invalidation in
    /// between, so that a mix of the words is an entry that it never showed, gets
    /// [`Hazard::MixedUpdate`](crate::Hazard::MixedUpdate).
    pub word_by_word: bool,
    /// Faults of the main queue and outside of the queues, active from power-on.
    pub faults: Vec<InjectedFault>,
}

impl Default for Profile {
    fn default() -> Self {
        Profile {
            stage1: true,
            stage2: true,
            hyp: false,
            asid_bits: 16,
            vmid_bits: 16,
            sid_bits: 16,
            range_invalidation: true,
            granule_4k: true,
            granule_16k: false,
            granule_64k: false,
            output_size: OutputSize::Bits44,
            two_level: true,
            coherent: true,
            ats: false,
            ats_errors: false,
            while_ats_off: WhileAtsOff::Answers,
            substream_bits: 0,
            two_level_cd: false,
            msi: false,
            sev: false,
            stall_model: StallModel::TerminateOnly,
            stall_max: 16,
            pri: false,
            second_queue: None,
            enhanced_queues: None,
            cmdq_log2: 8,
            eventq_log2: 7,
            priq_log2: 5,
            consume_per_poll: 4,
            caches: true,
            prefetch: true,
            ahead: Vec::new(),
            translations_ahead: false,
            unknown_at_reset: false,
            until_sync: false,
            word_by_word: false,
            faults: Vec::new(),
        }
    }
}

impl Profile {
    /// The profile with its sizes cut to the limits of the architecture and of the model.
    pub(crate) fn bounded(&self) -> Self {
        let wide = |bits: u8| if bits >= 16 { 16 } else { 8 };
        Profile {
            asid_bits: wide(self.asid_bits),
            vmid_bits: wide(self.vmid_bits),
            sid_bits: self.sid_bits.min(16),
            substream_bits: self.substream_bits.min(20),
            prefetch: self.prefetch && self.caches,
            ahead: if self.caches { self.ahead.clone() } else { Vec::new() },
            translations_ahead: self.translations_ahead && self.caches,
            unknown_at_reset: self.unknown_at_reset && self.caches,
            word_by_word: self.word_by_word && self.caches,
            enhanced_queues: self.enhanced_queues.map(|has| EnhancedQueues {
                pages_log2: has.pages_log2.min(4),
                queues_log2: has.queues_log2.min(8),
            }),
            cmdq_log2: self.cmdq_log2.min(19),
            eventq_log2: self.eventq_log2.min(19),
            priq_log2: self.priq_log2.min(19),
            ..self.clone()
        }
    }

    /// The values of the ID registers.
    #[must_use]
    pub fn id_registers(&self) -> IdRegisters {
        let this = self.bounded();
        let stalls = match this.stall_model {
            StallModel::Both => 0,
            StallModel::TerminateOnly => 1,
            StallModel::Forced => 2,
            StallModel::Reserved => 3,
        };
        IdRegisters {
            idr0: u32::from(this.stage2)
                | u32::from(this.stage1) << 1
                | 2 << 2 // TTF: AArch64
                | u32::from(this.coherent) << 4
                | u32::from(this.hyp) << 9
                | u32::from(this.ats) << 10
                | u32::from(this.asid_bits == 16) << 12
                | u32::from(this.msi) << 13
                | u32::from(this.sev) << 14
                | u32::from(this.vmid_bits == 16) << 18
                | u32::from(this.two_level_cd) << 19
                | 2 << 21 // TTENDIAN: little
                | u32::from(this.ats_errors) << 23
                | stalls << 24
                | u32::from(this.pri) << 16
                | 1 << 26 // TERM_MODEL: faults always abort
                | u32::from(this.two_level) << 27,
            idr1: u32::from(this.sid_bits)
                | u32::from(this.substream_bits) << 6
                | if this.pri { u32::from(this.priq_log2) << 11 } else { 0 }
                | u32::from(this.eventq_log2) << 16
                | u32::from(this.cmdq_log2) << 21
                | u32::from(this.enhanced_queues.is_some()) << 31,
            idr2: 0,
            // PPS: automatic answers have the PASID.
            idr3: u32::from(this.range_invalidation) << 10 | u32::from(this.pri) << 5,
            idr4: 0,
            idr5: this.output_size as u32
                | u32::from(this.granule_4k) << 4
                | u32::from(this.granule_16k) << 5
                | u32::from(this.granule_64k) << 6
                | if stalls == 1 { 0 } else { u32::from(this.stall_max) << 16 },
            idr6: this.enhanced_queues.map_or(0, |has| {
                u32::from(has.pages_log2) << 24 | u32::from(has.queues_log2) << 16
            }),
            iidr: 0,
            aidr: 1,
        }
    }

    /// Bits of a physical address; at most 48, the limit of the 4 KiB granule.
    pub(crate) fn output_bits(&self) -> u32 {
        self.output_size.bits().min(48)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smmu_types::{Capabilities, Granule, StallModel};

    #[test]
    fn id_registers_say_what_the_profile_says() {
        let caps = Capabilities::decode(Profile::default().id_registers());
        assert!(caps.stage1 && caps.stage2 && caps.coherent && caps.range_invalidation);
        assert!(caps.two_level_stream_table && !caps.hyp && !caps.ats && !caps.msi && !caps.sev);
        assert_eq!(caps.stall_model, StallModel::TerminateOnly);
        assert_eq!((caps.asid_bits, caps.vmid_bits, caps.sid_bits), (16, 16, 16));
        assert_eq!((caps.cmdq_log2, caps.eventq_log2, caps.ssid_bits), (8, 7, 0));
        assert!(caps.granules.contains(Granule::K4) && !caps.granules.contains(Granule::K64));
        let other = Profile { granule_4k: false, granule_64k: true, ..Profile::default() };
        let caps = Capabilities::decode(other.id_registers());
        assert!(!caps.granules.contains(Granule::K4) && caps.granules.contains(Granule::K64));
        let more = Profile { ats: true, msi: true, sev: true, ..Profile::default() };
        let caps = Capabilities::decode(more.id_registers());
        assert!(caps.ats && caps.msi && caps.sev && !caps.pri);
        let stalls = Profile { stall_model: StallModel::Both, pri: true, ..Profile::default() };
        let caps = Capabilities::decode(stalls.id_registers());
        assert_eq!((caps.stall_model, caps.stall_max), (StallModel::Both, 16));
        assert!(caps.pri && caps.pri_answers_with_pasid);
        assert_eq!(caps.priq_log2, 5);
    }

    #[test]
    fn id_registers_say_what_substreams_and_ats_there_are() {
        let (ats, ats_errors, two_level_cd) = (true, true, true);
        let profile =
            Profile { substream_bits: 10, ats, ats_errors, two_level_cd, ..Profile::default() };
        let caps = Capabilities::decode(profile.id_registers());
        assert_eq!((caps.ssid_bits, caps.ats, caps.ats_errors), (10, true, true));
        assert!(caps.two_level_cd);
        let wide = Profile { substream_bits: 31, ..Profile::default() };
        assert_eq!(Capabilities::decode(wide.id_registers()).ssid_bits, 20);
        // Without the fields, the registers are as they were.
        assert_eq!(Profile::default().id_registers().idr0 & (1 << 19 | 1 << 23 | 1 << 10), 0);
    }

    #[test]
    fn sizes_are_cut() {
        let profile = Profile { asid_bits: 12, sid_bits: 40, cmdq_log2: 200, ..Profile::default() };
        let caps = Capabilities::decode(profile.id_registers());
        assert_eq!((caps.asid_bits, caps.sid_bits, caps.cmdq_log2), (8, 16, 19));
    }
}
