//! What the entries of a device say for its attachments: the STE, and the CDs behind it.

use smmu_types::{
    AtsMode, Capabilities, Cd, FieldError, PhysAddr, ShareabilityOverride, Ste, SubstreamDefault,
    SubstreamId, TableConfig,
};

use crate::Platform;
use crate::ats_switch::{AtsState, AtsUse};
use crate::context::{CdTable, LinearTable, NewTable, TableKind};
use crate::device::{DeviceState, State};
use crate::entry::EntryFormat;
use crate::fault_model::FaultModel;
use crate::key::AttachKey;
use crate::leaf_table::{LEAF_BITS, LeafTable};
use crate::membership::{Leads, Member};
use crate::platform::Block;
use crate::smmu_core::SmmuParts;
use crate::table::single_context;
use crate::write::Step;

/// The entries of a device after one attach, and the way to them.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    /// The CDs that are written before the first step, where no entry leads.
    pub(crate) cds: CdWrite,
    /// The way, in two steps. One step of two new words would go through an invalid entry, which
    /// interrupts the substreams.
    pub(crate) first: Step,
    pub(crate) last: Step,
    /// The STE at the end.
    pub(crate) ste: Ste,
}

/// Where CDs are written before the first step of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CdWrite {
    Nothing,
    /// To the copy of a linear table that no STE leads to.
    Copy(TableKind, usize),
    /// To a two-level table that no STE leads to.
    InPlace,
    /// To a leaf that no descriptor leads to.
    Leaf,
}

impl Image {
    pub(crate) const ABORT: Self = Self::only(Ste::ABORT);

    /// The entries once `key` is attached as `becomes` says.
    ///
    /// `new` is memory that the attach brings. `live` is the STE in memory.
    pub(crate) fn of<P: Platform>(
        smmu: &SmmuParts<P>,
        device: &DeviceState<P>,
        change: Change<'_, P>,
        new: Option<&NewTable<Block<P>>>,
        live: Ste,
        ats: AtsUse,
    ) -> Result<Self, FieldError> {
        let stream = change.stream(device);
        let kind = match stream {
            _ if change.leaves_substreams(device) => TableKind::All,
            State::Member(Member { leads: Leads::Context(_), .. }) => TableKind::Single,
            State::Member(Member { leads: Leads::Stage2(ste), .. }) => return Ok(Self::only(*ste)),
            State::Bypass => return Ok(Self::only(Ste::bypass(incoming_shareability(smmu)))),
            // Not reached: a foreign stream has no substreams of ours.
            State::Foreign => return Ok(Self::only(live)),
            State::Blocked => return Ok(Self::ABORT),
        };
        let (was, is) = (device.ats.entry, change.uses_ats(device, ats));
        let faults = device.faults;
        let before =
            Treatment { default: default_of(&device.state), ats: AtsState::mode(was), faults };
        let after = Treatment { default: default_of(stream), ats: AtsState::mode(is), faults };
        let treatment = [before, after];
        let tables = &device.cds;
        match (kind, new) {
            (TableKind::Single, Some(NewTable::Single(table)))
            | (TableKind::All, Some(NewTable::All(CdTable::Linear(table)))) => {
                Self::linear(smmu, device, change, (kind, table), treatment, live)
            }
            (TableKind::All, Some(NewTable::All(CdTable::TwoLevel(table)))) => {
                Self::two_level(smmu, change, (table, None), treatment, live)
            }
            (kind, new) => match (tables.linear(kind), tables.leaves()) {
                (Some(table), _) => {
                    Self::linear(smmu, device, change, (kind, table), treatment, live)
                }
                (None, Some(table)) => {
                    let leaf = match new {
                        Some(NewTable::Leaf(_, leaf)) => Some(leaf),
                        _ => None,
                    };
                    Self::two_level(smmu, change, (table, leaf), treatment, live)
                }
                // Not reached: each attach brings the tables that its end needs.
                (None, None) => Ok(Self::ABORT),
            },
        }
    }

    fn linear<P: Platform>(
        smmu: &SmmuParts<P>,
        device: &DeviceState<P>,
        change: Change<'_, P>,
        (kind, table): (TableKind, &LinearTable<Block<P>>),
        [before, after]: [Treatment; 2],
        live: Ste,
    ) -> Result<Self, FieldError> {
        let leading_to =
            |copy, treatment| leading_to(smmu, 0, table.log2(), table.address(copy), treatment);
        // The same CDs as now need no copy, and an equal STE no command.
        let now = table.current();
        let copy = if table.has(now, |n| change.cd(device, n)) { now } else { 1 - now };
        let last = leading_to(copy, after)?;
        let mut first = last;
        if before != after && live == leading_to(now, before)? {
            first = match after.default {
                // The CD of substream 0 comes before the STE that uses it for the stream.
                SubstreamDefault::Substream0 => leading_to(copy, before)?,
                // It goes after the STE that does not.
                _ => leading_to(now, after)?,
            };
        }
        let cds = CdWrite::Copy(kind, copy);
        Ok(Image { cds, first: Step::Ste(first), last: Step::Ste(last), ste: last })
    }

    fn two_level<P: Platform>(
        smmu: &SmmuParts<P>,
        change: Change<'_, P>,
        (table, leaf): (&LeafTable<Block<P>>, Option<&Block<P>>),
        [before, after]: [Treatment; 2],
        live: Ste,
    ) -> Result<Self, FieldError> {
        const FORMAT: u8 = 1;
        let leading_to =
            |treatment| leading_to(smmu, FORMAT, table.log2(), table.address(), treatment);
        let ste = leading_to(after)?;
        let only = Image { cds: CdWrite::InPlace, ..Self::only(ste) };
        if live != leading_to(before)? || table.is_stale() {
            return Ok(only);
        }
        let (substream, cd) = change.context();
        let same = table.read(substream).words() == cd.unwrap_or(Cd::INVALID).words();
        if same {
            return Ok(Image { cds: CdWrite::Nothing, ..only });
        }
        let swap = Step::Leaf(table.replacement(substream, leaf)?);
        let (first, last) = match after.default {
            _ if before == after => (swap, swap),
            // The CD of substream 0 comes before the STE that uses it for the stream.
            SubstreamDefault::Substream0 => (swap, Step::Ste(ste)),
            // It goes after the STE that does not.
            _ => (Step::Ste(ste), swap),
        };
        Ok(Image { cds: CdWrite::Leaf, first, last, ste })
    }

    const fn only(ste: Ste) -> Self {
        Image { cds: CdWrite::Nothing, first: Step::Ste(ste), last: Step::Ste(ste), ste }
    }
}

/// What an STE says of transactions without a SubstreamID, of ATS, and of faults.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Treatment {
    default: SubstreamDefault,
    ats: AtsMode,
    faults: FaultModel,
}

/// One attachment that changes.
pub(crate) struct Change<'a, P: Platform> {
    pub(crate) key: AttachKey,
    pub(crate) becomes: &'a State<P>,
}

impl<P: Platform> Clone for Change<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Change<'_, P> {}

impl<'a, P: Platform> Change<'a, P> {
    /// The stream's own attachment afterwards.
    pub(crate) fn stream<'d>(self, device: &'d DeviceState<P>) -> &'d State<P>
    where
        'a: 'd,
    {
        match self.key {
            AttachKey::Stream => self.becomes,
            AttachKey::Substream(_) => &device.state,
        }
    }

    /// Whether a substream is attached afterwards.
    pub(crate) fn leaves_substreams(self, device: &DeviceState<P>) -> bool {
        match (self.key, self.becomes) {
            (AttachKey::Substream(_), State::Member(_)) => true,
            (AttachKey::Substream(id), _) => device.substreams.has_other(id),
            (AttachKey::Stream, _) => !device.substreams.is_empty(),
        }
    }

    /// Whether the STE has `EATS` afterwards.
    fn uses_ats(self, device: &DeviceState<P>, ats: AtsUse) -> bool {
        let stream = matches!(self.stream(device), State::Member(member) if member.has_atc());
        ats != AtsUse::Never && (stream || self.leaves_substreams(device))
    }

    /// The CD that changes, by SubstreamID.
    pub(crate) fn context(self) -> (usize, Option<Cd>) {
        let substream = match self.key {
            AttachKey::Stream => 0,
            AttachKey::Substream(id) => id.get() as usize,
        };
        (substream, context(self.becomes))
    }

    /// The CD of a SubstreamID afterwards.
    pub(crate) fn cd(self, device: &DeviceState<P>, n: usize) -> Cd {
        let (changed, changes_to) = self.context();
        let cd = match n {
            _ if n == changed => changes_to,
            0 => context(self.stream(device)),
            _ => {
                let id = u32::try_from(n).ok().and_then(SubstreamId::new);
                id.and_then(|id| device.substreams.get(id)?.context())
            }
        };
        cd.unwrap_or(Cd::INVALID)
    }

    /// The CDs to write to a two-level table that no STE leads to: all of a stale table, else those
    /// that may differ.
    pub(crate) fn missing_cds(
        self,
        device: &'a DeviceState<P>,
        stale: bool,
    ) -> impl Iterator<Item = (usize, Cd)> {
        let (changed, changes_to) = self.context();
        let others = device.substreams.iter().filter(move |_| stale);
        let others = others.map(|(id, member)| (id.get() as usize, member.context()));
        let stream = (0, context(self.stream(device)));
        let all = core::iter::once(stream).chain(others).filter(move |(n, _)| *n != changed);
        all.chain(core::iter::once((changed, changes_to)))
            .map(|(n, cd)| (n, cd.unwrap_or(Cd::INVALID)))
    }
}

fn context<P: Platform>(state: &State<P>) -> Option<Cd> {
    match state {
        State::Member(member) => member.context(),
        State::Blocked | State::Bypass | State::Foreign => None,
    }
}

/// What becomes of transactions without a SubstreamID (`S1DSS`).
fn default_of<P: Platform>(stream: &State<P>) -> SubstreamDefault {
    match stream {
        State::Bypass => SubstreamDefault::Bypass,
        State::Member(Member { leads: Leads::Context(_), .. }) => SubstreamDefault::Substream0,
        State::Member(_) | State::Blocked | State::Foreign => SubstreamDefault::Terminate,
    }
}

fn leading_to<P: Platform>(
    smmu: &SmmuParts<P>,
    format: u8,
    log2: u8,
    context: PhysAddr,
    Treatment { default, ats, faults }: Treatment,
) -> Result<Ste, FieldError> {
    let single = single_context(&smmu.caps, context);
    let config = TableConfig {
        format,
        cd_max: log2,
        substream_default: default,
        stall_disable: single.stall_disable && faults == FaultModel::Terminate,
        ..single
    };
    let shareability = match default {
        SubstreamDefault::Bypass => incoming_shareability(smmu),
        _ => ShareabilityOverride::NonShareable,
    };
    Ste::stage1(config, ats, shareability)
}

/// The shareability of transactions that no stage 1 changes: as they come.
pub(crate) fn incoming_shareability<P: Platform>(smmu: &SmmuParts<P>) -> ShareabilityOverride {
    // Without ATTR_TYPES_OVR the field is reserved, and the SMMU uses the incoming attribute.
    if smmu.caps.attribute_override {
        ShareabilityOverride::Incoming
    } else {
        ShareabilityOverride::NonShareable
    }
}

/// The number of SubstreamID bits that a linear table of CDs covers at most.
///
/// A change copies the table, so a larger one would make each attach of a substream slower.
const MAX_LINEAR_BITS: u8 = 10;

/// The number of SubstreamID bits that this crate uses of an SMMU.
pub(crate) const fn usable_substream_bits(caps: &Capabilities) -> u8 {
    let most = if caps.two_level_cd { 20 } else { MAX_LINEAR_BITS };
    if caps.ssid_bits < most { caps.ssid_bits } else { most }
}

/// Whether a device's table of CDs has two levels: not where one leaf holds all CDs.
pub(crate) const fn is_two_level(caps: &Capabilities, bits: u8) -> bool {
    caps.two_level_cd && bits > LEAF_BITS
}

/// Whether a SubstreamID can be attached. The stream itself may use that of substream 0.
pub(crate) const fn is_attachable(substream: SubstreamId, bits: u8) -> bool {
    substream.get() != 0 && substream.get() >> bits == 0
}
