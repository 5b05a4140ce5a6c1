//! What devices do, and what an SMMU tells of it.

use std::fmt::{self, Display};

use smmu_engine::machine::{DmaReadOutcome, DmaSource, DmaWriteOutcome};
use smmu_types::regs;
use smmu_types::seam::RegistersExt;
use smmu_types::{EventRecord, Irq, SubstreamId};

use super::bench::{Bench, pointer, smmu_of};
use super::ended::{Checked, not_offered, same, wrong};

/// Where a write of a device went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// Into this page.
    Page(u64),
    /// Into none that the bench knows.
    Elsewhere,
    /// Nowhere.
    Nowhere,
}

impl Display for Landed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Landed::Page(page) => write!(f, "a write to {page:#x}"),
            Landed::Elsewhere => f.write_str("a write to somewhere else"),
            Landed::Nowhere => f.write_str("no write"),
        }
    }
}

impl Bench {
    /// A device writes. Says where.
    pub(super) fn dma(&self, device: usize, iova: u64) -> Checked<Landed> {
        let pattern = self.machine.pattern(device);
        let mut first = [0; 4];
        for (to, from) in first.iter_mut().zip(pattern.iter()) {
            *to = *from;
        }
        let (wanted, offset) = (u64::from(u32::from_le_bytes(first)), iova & 0xffc);
        let word = |page: u64| (page + offset) & !7;
        for page in &self.pages {
            self.put(word(*page), 0);
        }
        let outcome = match self.source() {
            None => self.machine.dma_write(device, iova)?,
            Some(source) => self.machine.dma_write_from(device, source, iova)?,
        };
        let shift = if offset & 4 == 0 { 0 } else { 32 };
        let holds = |page: &u64| self.get(word(*page)) >> shift & 0xffff_ffff == wanted;
        let mut pages = self.pages.iter().copied();
        Ok(match (pages.find(holds), outcome) {
            (Some(page), _) => Landed::Page(page),
            (None, DmaWriteOutcome::Written) => Landed::Elsewhere,
            (None, _) => Landed::Nowhere,
        })
    }

    fn source(&self) -> Option<DmaSource> {
        let substream = SubstreamId::new(self.substream_sent?)?;
        Some(DmaSource { substream: Some(substream), translated: false })
    }

    /// The write of a device lands in this page, and no event tells of it.
    pub(super) fn lands(&self, device: usize, iova: u64, page: u64) -> Checked {
        let landed = self.dma(device, iova)?;
        let events = self.events(smmu_of(device))?;
        if landed == Landed::Page(page) && events.is_empty() {
            return Ok(());
        }
        wrong(Landed::Page(page), Seen(landed, &events))
    }

    /// The write of a device is refused, and exactly this event tells of it.
    pub(super) fn faults(&self, device: usize, iova: u64, event: EventRecord) -> Checked {
        self.refused(device, iova, Some(event))
    }

    /// The write of a device is refused, and no event tells of it.
    pub(super) fn refused_silently(&self, device: usize, iova: u64) -> Checked {
        self.refused(device, iova, None)
    }

    fn refused(&self, device: usize, iova: u64, event: Option<EventRecord>) -> Checked {
        let landed = self.dma(device, iova)?;
        let events = self.events(smmu_of(device))?;
        let wanted: Vec<EventRecord> = event.into_iter().collect();
        let (wanted, got) =
            (Seen(Landed::Nowhere, &wanted).to_string(), Seen(landed, &events).to_string());
        same("a refused DMA", wanted, got)
    }

    pub(super) fn read(&self, device: usize, iova: u64) -> Checked<DmaReadOutcome> {
        Ok(self.machine.dma_read(device, iova)?)
    }

    pub(super) fn ended_write(&self, device: usize) -> Checked<Option<DmaWriteOutcome>> {
        Ok(self.machine.ended_write(device)?)
    }

    pub(super) fn write(&self, device: usize, iova: u64) -> Checked<DmaWriteOutcome> {
        Ok(self.machine.dma_write(device, iova)?)
    }

    // Events and interrupts.

    /// A record in the event ring.
    pub(super) fn record(&self, smmu: usize, at: u32) -> EventRecord {
        let (ring, log2) = self.event_ring(smmu);
        let slot = ring + 32 * u64::from(at & (pointer(log2) >> 1));
        EventRecord([0, 8, 16, 24].map(|n| self.get(slot + n)))
    }

    /// Takes all events. An overflow stays unacknowledged.
    pub(super) fn events(&self, smmu: usize) -> Checked<Vec<EventRecord>> {
        let r = self.regs(smmu)?;
        let (_, log2) = self.event_ring(smmu);
        let (prod, cons) = (r.read(regs::EVENTQ_PROD), r.read(regs::EVENTQ_CONS));
        let mut at = cons & pointer(log2);
        let mut events = Vec::new();
        while at != prod & pointer(log2) {
            if events.len() > 1 << log2 {
                return wrong(
                    format_args!("EVENTQ_PROD at most {} beyond EVENTQ_CONS", 1 << log2),
                    format_args!("EVENTQ_PROD {prod:#x}, EVENTQ_CONS {cons:#x}"),
                );
            }
            events.push(self.record(smmu, at));
            at = (at + 1) & pointer(log2);
        }
        if at != cons & pointer(log2) {
            r.write(regs::EVENTQ_CONS, at | cons & 1 << 31);
        }
        Ok(events)
    }

    /// Interrupts since the last call, in order of SMMUs and kinds.
    pub(super) fn interrupts(&self) -> Vec<(usize, Irq)> {
        let mut raised = self.machine.take_interrupts();
        raised.sort_unstable();
        raised
    }

    /// Exactly these interrupts were raised since the last call.
    pub(super) fn raised(&self, wanted: &[(usize, Irq)]) -> Checked {
        if !self.machine.sees_interrupts() {
            return not_offered("interrupts that are seen");
        }
        let text = |list: &[(usize, Irq)]| match list {
            [] => "no interrupt".to_owned(),
            list => list
                .iter()
                .map(|(smmu, irq)| format!("{irq} of smmu{smmu}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        same("interrupts", text(wanted), text(&self.interrupts()))
    }
}

/// What became of a write, and the events of it.
struct Seen<'a>(Landed, &'a [EventRecord]);

impl Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.1 {
            [] => f.write_str(", no event"),
            events => events.iter().try_for_each(|event| write!(f, ", {}", Comparable(event))),
        }
    }
}

/// An event without what an implementation defines.
struct Comparable<'a>(&'a EventRecord);

impl Display for Comparable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [w0, w1, w2, w3] = self.0.0;
        let w1 = match self.0.fetch_address() {
            // Reason: bits 79:64.
            Some(_) => w1 & !0xffff,
            // ImpDef: bits 127:112.
            None if self.0.kind().is_translation_fault() => w1 & ((1 << 48) - 1),
            None => w1,
        };
        let event = EventRecord([w0, w1, w2, w3]);
        write!(f, "{event}")
    }
}
