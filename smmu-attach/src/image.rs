//! What the entries of a device say for its attachments: the STE, and the CDs behind it.

use smmu_types::{
    AtsMode, Cd, FieldError, ShareabilityOverride, Ste, SubstreamDefault, SubstreamId, TableConfig,
};

use crate::Platform;
use crate::context::{CdTable, TableKind};
use crate::device::{AttachKey, DeviceState, State};
use crate::membership::{Leads, Member};
use crate::platform::Block;
use crate::smmu::FaultModel;
use crate::smmu_core::SmmuParts;
use crate::table::single_context;

/// The entries of a device after one attach.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    /// Where the CDs are written, before the first STE: a table, and the copy that no STE leads to.
    pub(crate) cds: Option<(TableKind, usize)>,
    /// The STE, in two steps. An STE of two new words would go through an invalid one, which
    /// interrupts the substreams.
    pub(crate) first: Ste,
    pub(crate) last: Ste,
}

impl Image {
    pub(crate) const ABORT: Self = Image { cds: None, first: Ste::ABORT, last: Ste::ABORT };

    /// The entries once `key` is attached as `becomes` says.
    ///
    /// `fresh` is a table that the attach brings. `live` is the STE in memory.
    pub(crate) fn of<P: Platform>(
        smmu: &SmmuParts<P>,
        device: &DeviceState<P>,
        change: Change<'_, P>,
        fresh: Option<&(TableKind, CdTable<Block<P>>)>,
        live: Ste,
    ) -> Result<Self, FieldError> {
        let stream = change.stream(device);
        let default = default_of(stream);
        let kind = match stream {
            _ if change.leaves_substreams(device) => TableKind::All,
            State::Member(Member { leads: Leads::Context(_), .. }) => TableKind::Single,
            State::Member(Member { leads: Leads::Stage2(ste), .. }) => return Ok(Self::only(*ste)),
            State::Bypass => return Ok(Self::only(Ste::bypass(incoming_shareability(smmu)))),
            State::Blocked => return Ok(Self::ABORT),
        };
        let made = fresh.filter(|(made, _)| *made == kind).map(|(_, table)| table);
        // Not reached: each attach brings the tables that its end needs.
        let Some(table) = made.or(device.cds.get(kind)) else { return Ok(Self::ABORT) };
        // The same CDs as now need no copy, and an equal STE no command.
        let now = table.current();
        let copy = if table.has(now, change.cds(device)) { now } else { 1 - now };
        let faults = device.faults;
        let last = leading_to(smmu, table, copy, default, faults)?;
        let before = default_of(&device.state);
        let mut first = last;
        if before != default && live == leading_to(smmu, table, now, before, faults)? {
            first = match default {
                // The CD of substream 0 comes before the STE that uses it for the stream.
                SubstreamDefault::Substream0 => leading_to(smmu, table, copy, before, faults)?,
                // It goes after the STE that does not.
                _ => leading_to(smmu, table, now, default, faults)?,
            };
        }
        Ok(Image { cds: Some((kind, copy)), first, last })
    }

    const fn only(ste: Ste) -> Self {
        Image { cds: None, first: ste, last: ste }
    }
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
    fn stream(self, device: &'a DeviceState<P>) -> &'a State<P> {
        match self.key {
            AttachKey::Stream => self.becomes,
            AttachKey::Substream(_) => &device.state,
        }
    }

    /// Whether a substream is attached afterwards.
    pub(crate) fn leaves_substreams(self, device: &DeviceState<P>) -> bool {
        let others = device.substreams.iter().any(|(id, _)| AttachKey::Substream(*id) != self.key);
        let this = matches!((self.key, self.becomes), (AttachKey::Substream(_), State::Member(_)));
        others || this
    }

    /// The CDs afterwards, by SubstreamID. Ask in ascending order.
    pub(crate) fn cds(self, device: &'a DeviceState<P>) -> impl FnMut(usize) -> Cd {
        let mut others = device.substreams.iter().peekable();
        let stream = context(self.stream(device));
        move |n| {
            while others.next_if(|(id, _)| (id.get() as usize) < n).is_some() {}
            let there = others.peek().filter(|(id, _)| id.get() as usize == n);
            let cd = match self.key {
                AttachKey::Substream(id) if id.get() as usize == n => context(self.becomes),
                _ if n == 0 => stream,
                _ => there.and_then(|(_, member)| member.context()),
            };
            cd.unwrap_or(Cd::INVALID)
        }
    }
}

fn context<P: Platform>(state: &State<P>) -> Option<Cd> {
    match state {
        State::Member(member) => member.context(),
        State::Blocked | State::Bypass => None,
    }
}

/// What becomes of transactions without a SubstreamID (`S1DSS`).
fn default_of<P: Platform>(stream: &State<P>) -> SubstreamDefault {
    match stream {
        State::Bypass => SubstreamDefault::Bypass,
        State::Member(Member { leads: Leads::Context(_), .. }) => SubstreamDefault::Substream0,
        State::Member(_) | State::Blocked => SubstreamDefault::Terminate,
    }
}

fn leading_to<P: Platform>(
    smmu: &SmmuParts<P>,
    table: &CdTable<Block<P>>,
    copy: usize,
    default: SubstreamDefault,
    faults: FaultModel,
) -> Result<Ste, FieldError> {
    let single = single_context(&smmu.caps, table.address(copy));
    let config = TableConfig {
        cd_max: table.log2(),
        substream_default: default,
        stall_disable: single.stall_disable && faults == FaultModel::Terminate,
        ..single
    };
    let shareability = match default {
        SubstreamDefault::Bypass => incoming_shareability(smmu),
        _ => ShareabilityOverride::NonShareable,
    };
    Ste::stage1(config, AtsMode::Off, shareability)
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

/// The number of bits that a linear table of CDs covers at most.
///
/// A change copies the table, so a larger one would make each attach of a substream slower.
pub(crate) const MAX_SUBSTREAM_BITS: u8 = 10;

/// Whether a SubstreamID can be attached. The stream itself may use that of substream 0.
pub(crate) const fn is_attachable(substream: SubstreamId, bits: u8) -> bool {
    substream.get() != 0 && substream.get() >> bits == 0
}
