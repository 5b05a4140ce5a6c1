//! What the SMMU does with a stream's transactions, or why it has no configuration for them.

use smmu_types::{Cd, EventKind, PhysAddr, Regime, Ste, SubstreamId, Vmid};

use crate::config::cd_table::{CdChoice, CdTable};
use crate::config::decode_cd::decode_cd;
use crate::config::decode_ste::{Bad, Stream, Tagged, decode_ste};
use crate::config::stream_table::Absent;
use crate::profile::Profile;
use crate::walk::table_walk::WalkFault;
use crate::walk::translation::Stages;

/// How the SMMU treats a stream's transactions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Treatment {
    Abort,
    Bypass,
    Translate(Stages),
}

/// Why a stream has no configuration: the event to record, and what the model lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: EventKind,
    pub(crate) fetch: Option<PhysAddr>,
    /// The fault of stage 2, if it stopped the fetch of a CD.
    pub(crate) fault: Option<WalkFault>,
    pub(crate) unsupported: Option<&'static str>,
}

impl Refusal {
    fn new(kind: EventKind) -> Self {
        Refusal { kind, fetch: None, fault: None, unsupported: None }
    }

    /// There is no STE.
    pub(crate) fn no_ste(absent: Absent) -> Self {
        Self::absent(absent, EventKind::C_BAD_STREAMID, EventKind::F_STE_FETCH)
    }

    /// There is no CD.
    pub(crate) fn no_cd(absent: Absent) -> Self {
        Self::absent(absent, EventKind::C_BAD_SUBSTREAMID, EventKind::F_CD_FETCH)
    }

    fn absent(absent: Absent, missing: EventKind, abort: EventKind) -> Self {
        match absent {
            Absent::Missing => Refusal::new(missing),
            Absent::Abort(address) => Refusal { fetch: Some(address), ..Refusal::new(abort) },
            Absent::Fault(fault) => {
                Refusal { fetch: fault.fetch, fault: Some(fault), ..Refusal::new(fault.kind) }
            }
        }
    }

    pub(crate) fn bad(bad: Bad, kind: EventKind) -> Self {
        let unsupported = match bad {
            Bad::Illegal => None,
            Bad::Unsupported(feature) => Some(feature),
        };
        Refusal { unsupported, ..Refusal::new(kind) }
    }
}

/// What an STE says of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// The SMMU needs no CD.
    Done(Treatment),
    /// The SMMU needs a CD.
    NeedsCd(NeedsCd),
}

/// A CD that the SMMU needs for a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeedsCd {
    pub(crate) cds: CdTable,
    pub(crate) index: u32,
    vmid: Vmid,
    regime: Regime,
    tagged: Tagged,
    may_stall: bool,
}

impl NeedsCd {
    /// The treatment that the CD asks for.
    pub(crate) fn with(&self, cd: &Cd, profile: &Profile) -> Result<Treatment, Refusal> {
        let NeedsCd { cds, index: _, vmid, regime, tagged, may_stall } = *self;
        decode_cd(cd, profile, vmid, regime, tagged, may_stall)
            .map(|first| Treatment::Translate(Stages { first, second: cds.second }))
            .map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_CD))
    }
}

/// Decode an STE for a transaction.
pub(crate) fn plan(
    ste: &Ste,
    profile: &Profile,
    e2h: bool,
    substream: Option<SubstreamId>,
) -> Result<Plan, Refusal> {
    let stream =
        decode_ste(ste, profile, e2h).map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_STE))?;
    let treatment = match stream {
        Stream::Abort => Treatment::Abort,
        // 5.2, S1Fmt: without stage 1 a transaction must not carry a SubstreamID.
        Stream::Bypass | Stream::Stage2(_) if substream.is_some() => {
            return Err(Refusal::new(EventKind::C_BAD_SUBSTREAMID));
        }
        Stream::Bypass => Treatment::Bypass,
        Stream::Stage2(t) => Treatment::Translate(Stages::one(t)),
        Stream::Stage1 { cds, vmid, regime, tagged, may_stall } => {
            match (cds.choose(substream).map_err(Refusal::new)?, cds.second) {
                (CdChoice::Cd(index), _) => {
                    let needs = NeedsCd { cds, index, vmid, regime, tagged, may_stall };
                    return Ok(Plan::NeedsCd(needs));
                }
                // 5.2, S1DSS: the transaction skips stage 1, and no other stage.
                (CdChoice::Bypass, Some(second)) => Treatment::Translate(Stages::one(second)),
                (CdChoice::Bypass, None) => Treatment::Bypass,
            }
        }
    };
    Ok(Plan::Done(treatment))
}

/// Decode an STE and the CD that it has for a transaction; `cd` fetches the CD of an index.
pub(crate) fn resolve(
    ste: &Ste,
    profile: &Profile,
    e2h: bool,
    substream: Option<SubstreamId>,
    cd: impl FnOnce(&CdTable, u32) -> Result<Cd, Absent>,
) -> Result<Treatment, Refusal> {
    match plan(ste, profile, e2h, substream)? {
        Plan::Done(treatment) => Ok(treatment),
        Plan::NeedsCd(needs) => {
            let cd = cd(&needs.cds, needs.index).map_err(Refusal::no_cd)?;
            needs.with(&cd, profile)
        }
    }
}
