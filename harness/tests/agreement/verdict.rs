//! What an SMMU says to a configuration, found out by asking one.
//!
//! A [`Configuration`] is all that decides whether the SMMU refuses a transaction before
//! translation: the end of the stream table, an STE and its CD. A [`VerdictRig`] writes one into
//! the memory of a machine of any [`Backend`](smmu_engine::machine::Backend), lets one device write
//! 4 bytes, and returns the [`Verdict`]. [`generate`] makes many configurations, each with a name
//! that says what is odd about it.

mod bases;
pub(crate) mod fields;
mod generate;
mod place;
mod rig;

use std::fmt;

use smmu_types::regs::cr2;
use smmu_types::{Cd, EventKind, EventRecord, Ste, StreamId};

pub(crate) use generate::generate;
pub(crate) use place::{CDS, L2_TABLE, S1_ROOT, S2_ROOT, STREAM_TABLE, TARGET};
pub(crate) use rig::VerdictRig;

/// All that decides whether the SMMU refuses a transaction without a SubstreamID before
/// translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Configuration {
    /// The STE. It lies at the place of `stream` in the table, even beyond the end of the table.
    pub(crate) ste: Ste,
    /// The CD, if `S1ContextPtr` leads into [`CDS`]. `None` leaves zeros there. For any other
    /// pointer see [`cd_in_memory`](Self::cd_in_memory).
    pub(crate) cd: Option<Cd>,
    /// Every level-1 descriptor of a two-level stream table. The STE lies in [`L2_TABLE`], at the
    /// place that the descriptor and the StreamID give; a reserved split counts as 6.
    pub(crate) l1: Option<u64>,
    /// Who does the DMA.
    pub(crate) stream: StreamId,
    /// `STRTAB_BASE_CFG`: format, split and size of the stream table, which is at [`STREAM_TABLE`].
    pub(crate) strtab: u32,
    /// `CR2`.
    pub(crate) cr2: u32,
}

impl Configuration {
    /// A linear stream table of 256 entries, StreamID 8, and events for every StreamID.
    pub(crate) const fn new(ste: Ste, cd: Option<Cd>) -> Self {
        Configuration {
            ste,
            cd,
            l1: None,
            stream: StreamId(8),
            strtab: 8,
            cr2: cr2::RECINVSID | cr2::PTM,
        }
    }

    /// The CD at the address of `S1ContextPtr`, or `None` if the address is outside [`CDS`], where
    /// memory has no defined content.
    pub(crate) fn cd_in_memory(&self) -> Option<Cd> {
        place::cd(&self.ste).map(|_| self.cd.unwrap_or(Cd::INVALID))
    }
}

/// What became of one write of 4 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was carried out, without an event.
    Accepted,
    /// The configuration was refused, with this event: an STE or a CD was not found, or is no good.
    Refused(EventKind),
    /// It was refused without an event: the STE says so, or it faulted and the configuration
    /// records no faults.
    Aborted,
    /// The configuration was accepted, and translation faulted.
    Faulted(EventRecord),
    /// The machine ended, and this is what it said.
    Died(String),
}

impl Verdict {
    /// What an event says.
    pub(crate) fn of(event: EventRecord) -> Verdict {
        let kind = event.kind();
        match kind {
            EventKind::F_WALK_EABT | EventKind::F_TLB_CONFLICT => Verdict::Faulted(event),
            _ if kind.is_translation_fault() => Verdict::Faulted(event),
            _ => Verdict::Refused(kind),
        }
    }

    /// The event that refused the configuration.
    pub(crate) const fn refusal(&self) -> Option<EventKind> {
        match self {
            Verdict::Refused(kind) => Some(*kind),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accepted => f.write_str("accepted"),
            Verdict::Refused(kind) => write!(f, "refused: {kind}"),
            Verdict::Aborted => f.write_str("aborted without an event"),
            Verdict::Faulted(event) => write!(f, "accepted, then {}", event.kind()),
            Verdict::Died(_) => f.write_str("died"),
        }
    }
}

pub(crate) mod tests;
