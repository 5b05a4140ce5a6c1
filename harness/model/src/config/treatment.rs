//! What the SMMU does with a stream's transactions, or why it has no configuration for them.

use smmu_types::{Cd, EventKind, PhysAddr, Ste, SubstreamId};

use crate::config::cd_table::{CdChoice, CdTable};
use crate::config::decode_cd::decode_cd;
use crate::config::decode_ste::{Bad, Stream, decode_ste};
use crate::config::stream_table::Absent;
use crate::profile::Profile;
use crate::walk::translation::Translation;

/// How the SMMU treats a stream's transactions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Treatment {
    Abort,
    Bypass,
    Translate(Translation),
}

/// Why a stream has no configuration: the event to record, and what the model lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: EventKind,
    pub(crate) fetch: Option<PhysAddr>,
    pub(crate) unsupported: Option<&'static str>,
}

impl Refusal {
    fn new(kind: EventKind) -> Self {
        Refusal { kind, fetch: None, unsupported: None }
    }

    /// There is no STE.
    pub(crate) fn no_ste(absent: Absent) -> Self {
        Self::absent(absent, EventKind::C_BAD_STREAMID, EventKind::F_STE_FETCH)
    }

    fn absent(absent: Absent, missing: EventKind, abort: EventKind) -> Self {
        match absent {
            Absent::Missing => Refusal::new(missing),
            Absent::Abort(address) => Refusal { fetch: Some(address), ..Refusal::new(abort) },
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

/// Decode an STE and the CD that it has for a transaction; `cd` fetches the CD of an index.
pub(crate) fn resolve(
    ste: &Ste,
    profile: &Profile,
    e2h: bool,
    substream: Option<SubstreamId>,
    cd: impl FnOnce(&CdTable, u32) -> Result<Cd, Absent>,
) -> Result<Treatment, Refusal> {
    let stream =
        decode_ste(ste, profile, e2h).map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_STE))?;
    match stream {
        Stream::Abort => Ok(Treatment::Abort),
        // 5.2, S1Fmt: without stage 1 a transaction must not carry a SubstreamID.
        Stream::Bypass | Stream::Stage2(_) if substream.is_some() => {
            Err(Refusal::new(EventKind::C_BAD_SUBSTREAMID))
        }
        Stream::Bypass => Ok(Treatment::Bypass),
        Stream::Stage2(t) => Ok(Treatment::Translate(t)),
        Stream::Stage1 { cds, vmid, regime, tagged, may_stall } => {
            let index = match cds.choose(substream).map_err(Refusal::new)? {
                CdChoice::Bypass => return Ok(Treatment::Bypass),
                CdChoice::Cd(index) => index,
            };
            let cd = cd(&cds, index).map_err(|absent| {
                Refusal::absent(absent, EventKind::C_BAD_SUBSTREAMID, EventKind::F_CD_FETCH)
            })?;
            decode_cd(&cd, profile, vmid, regime, tagged, may_stall)
                .map(Treatment::Translate)
                .map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_CD))
        }
    }
}
