//! What a full machine has more: substreams, ATS, stalls and page requests.

use smmu_types::{Command, PrgIndex, PriResponse, ResumeAction, StreamId, SubstreamId};

use super::Generator;
use crate::explore::memory::{
    CD_COUNT, CDS, CDS_2, CDS_L1, DEVICES, NOWHERE, SMMUS, SUBSTREAMS, cd, cd_of,
};
use crate::explore::raw_op::{Kind, RawOp};
use crate::explore::rig::atc_inv_all;

/// `S1CDMax` = 2: four CDs. `S1CDMax` = 7: 128 CDs in two leaves of 4 KiB (`S1Fmt` = 1).
const FOUR_CDS: u64 = 2 << 59;
const TWO_LEAVES: u64 = 7 << 59 | 1 << 4;
/// Where the pointer to the table lies.
const CD_POINTER: u64 = 0xf_ffff_ffff_ffc0;
/// `CD.S`, `STE.S1STALLD`, `STE.S2S` and the place of `STE.EATS`.
const CD_STALLS: u64 = 1 << 44;
const NO_STALLS: u64 = 1 << 27;
const STAGE2_STALLS: u64 = 1 << 57;
const EATS: u32 = 28;

impl Generator {
    fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// What a transaction carries beside its address.
    pub(super) fn source(&mut self) -> (Option<SubstreamId>, bool) {
        if !self.is_full() {
            return (None, false);
        }
        (self.substream(), self.random.once_in(4))
    }

    fn substream(&mut self) -> Option<SubstreamId> {
        let n = match self.random.below(16) {
            0..=9 => return None,
            // One that has no CD, and one beyond every table.
            10 => self.one_of(&[5, 66, 127, 128, 255, 0x1000], 5),
            _ => self.one_of(&SUBSTREAMS, 0),
        };
        u32::try_from(n).ok().and_then(SubstreamId::new)
    }

    /// Where a CD lies.
    pub(super) fn cd_place(&mut self) -> u64 {
        if self.is_full() {
            return cd_of(self.one_of(&SUBSTREAMS, 0));
        }
        cd(self.random.below(CD_COUNT as usize) as u64)
    }

    /// Faults of stage 1 stall now and then.
    pub(super) fn full_cd(&mut self, words: &mut [u64; 8]) {
        if self.is_full() && self.random.once_in(4) {
            words[0] |= CD_STALLS;
        }
    }

    /// Substreams, ATS and stalls of an STE.
    pub(super) fn full_ste(&mut self, words: &mut [u64; 8]) {
        if !self.is_full() {
            return;
        }
        let [w0, w1, w2, ..] = words;
        let config = *w0 >> 1 & 7;
        let (stage1, stage2) = (config & 5 == 5, config & 6 == 6);
        if stage1 && self.random.once_in(2) {
            let table = self.random.once_in(2);
            let (format, at) = if table { (FOUR_CDS, CDS) } else { (TWO_LEAVES, CDS_L1) };
            *w0 = *w0 & !CD_POINTER | at | format;
            // S1DSS: terminate, bypass, substream 0.
            *w1 = *w1 & !3 | self.one_of(&[0, 1, 2, 2, 2], 2);
        }
        if stage1 && self.random.once_in(8) {
            *w1 |= NO_STALLS;
        }
        if stage2 && self.random.once_in(8) {
            *w2 |= STAGE2_STALLS;
        }
        if stage1 || stage2 {
            // Split-stage ATS needs both stages.
            let mode = match self.random.below(12) {
                0..=7 => 1,
                8 | 9 if stage1 && stage2 => 2,
                10 => self.random.below(4) as u64,
                _ => 0,
            };
            *w1 |= mode << EATS;
        }
    }

    /// Everything that devices have kept goes, on every SMMU.
    pub(super) fn flush_devices(&mut self) {
        if !self.is_full() {
            return;
        }
        for smmu in 0..SMMUS {
            let devices = DEVICES.iter().filter(|(of, _)| *of == smmu);
            let commands = devices.map(|(_, stream)| atc_inv_all(*stream)).collect();
            self.queued.push_back(RawOp::Send { smmu, commands });
        }
    }

    pub(super) fn more_of_full(&mut self) {
        let device = self.random.below(DEVICES.len());
        let (smmu, stream) = self.one_of(&DEVICES, DEVICES[0]);
        match self.random.below(20) {
            0..=4 => {
                let (iova, substream) = (self.page(), self.substream());
                self.queued.push_back(RawOp::AtsRequest { device, iova, substream });
            }
            5..=8 => self.page_request(),
            9..=11 => {
                let command = self.page_response();
                self.queued.push_back(RawOp::Send { smmu, commands: vec![command] });
            }
            12..=15 => {
                self.dma();
                let stream = StreamId(stream);
                let actions = [ResumeAction::Retry, ResumeAction::Terminate, ResumeAction::Abort];
                let action = self.one_of(&actions, ResumeAction::Retry);
                let tag = self.random.below(4) as u16;
                let command = match self.random.below(6) {
                    0 => Command::StallTerm { stream },
                    _ => Command::Resume { stream, tag, action },
                };
                let commands = vec![command.encode().0];
                self.queued.push_back(RawOp::Send { smmu, commands });
            }
            16 => {
                let on = self.random.below(4) > 0;
                self.queued.push_back(RawOp::SwitchAts { device, on });
                self.dma();
            }
            17 => {
                let (store, commands) = self.cd_first_level();
                self.queued.push_back(store);
                self.flush(&commands);
            }
            18 => {
                // One page of one substream.
                let substream = self.random.pick(&SUBSTREAMS).unwrap_or_default();
                let word = 0x40 | u64::from(stream) << 32 | 1 << 11 | substream << 12;
                let commands = vec![[word, self.page() & !0xfff]];
                self.queued.push_back(RawOp::Send { smmu, commands });
            }
            _ => self.dma(),
        }
    }

    pub(super) fn page_request(&mut self) {
        let device = self.random.below(DEVICES.len());
        let (iova, substream) = (self.page(), self.substream());
        let (group, last) = (self.group(), self.random.below(4) > 0);
        self.queued.push_back(RawOp::PageRequest { device, iova, group, substream, last });
    }

    fn group(&mut self) -> PrgIndex {
        PrgIndex::new(self.random.below(3) as u16).unwrap_or_default()
    }

    fn page_response(&mut self) -> [u64; 2] {
        let (_, stream) = self.one_of(&DEVICES, DEVICES[0]);
        let (substream, group) = (self.substream(), self.group());
        let all = [PriResponse::Success, PriResponse::Invalid, PriResponse::Failure];
        let response = self.one_of(&all, PriResponse::Success);
        Command::PriResp { stream: StreamId(stream), substream, group, response }.encode().0
    }

    /// A change of the first level of the table of CDs, and the commands that make it known.
    fn cd_first_level(&mut self) -> (RawOp, Vec<[u64; 2]>) {
        let n = self.random.below(2) as u64;
        let own = if n == 0 { CDS } else { CDS_2 };
        let word = match self.random.below(8) {
            0..=3 => own | 1,
            4 => CDS | 1,
            5 => 0,
            6 => NOWHERE | 1,
            // Not valid, whatever it points to.
            _ => own,
        };
        let store = RawOp::Store { at: CDS_L1 + 8 * n, words: vec![word] };
        let each = DEVICES.map(|(_, stream)| {
            let sid = u64::from(stream) << 32;
            // CFGI_CD with Leaf = 0 of the first CD below, or all CDs of the stream.
            [[0x6 | sid, 0], [0x5 | sid | (64 * n) << 12, 0]]
        });
        let one = self.random.below(2);
        (store, each.iter().filter_map(|both| both.get(one).copied()).collect())
    }
}
