//! What the SMMU does with a stream's transactions, or why it has no configuration for them.

use smmu_types::{Cd, EventKind, PhysAddr, Ste};

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
    pub(crate) fn absent(absent: Absent, abort: EventKind) -> Self {
        let fetch = match absent {
            Absent::BadStream => None,
            Absent::Abort(address) => Some(address),
        };
        Refusal { kind: absent_kind(absent, abort), fetch, unsupported: None }
    }

    fn bad(bad: Bad, kind: EventKind) -> Self {
        let unsupported = match bad {
            Bad::Illegal => None,
            Bad::Unsupported(feature) => Some(feature),
        };
        Refusal { kind, fetch: None, unsupported }
    }
}

/// Decode an STE and the CD that it points to; `cd` fetches the CD.
pub(crate) fn resolve(
    ste: &Ste,
    profile: &Profile,
    e2h: bool,
    cd: impl FnOnce(PhysAddr) -> Result<Cd, Absent>,
) -> Result<Treatment, Refusal> {
    let stream =
        decode_ste(ste, profile, e2h).map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_STE))?;
    match stream {
        Stream::Abort => Ok(Treatment::Abort),
        Stream::Bypass => Ok(Treatment::Bypass),
        Stream::Stage2(t) => Ok(Treatment::Translate(t)),
        Stream::Stage1 { cd: at, vmid, regime, tagged, may_stall } => {
            let cd = cd(at).map_err(|absent| Refusal::absent(absent, EventKind::F_CD_FETCH))?;
            decode_cd(&cd, profile, vmid, regime, tagged, may_stall)
                .map(Treatment::Translate)
                .map_err(|bad| Refusal::bad(bad, EventKind::C_BAD_CD))
        }
    }
}

/// The event of a missing entry: `C_BAD_STREAMID`, or `abort` after an aborted fetch.
fn absent_kind(absent: Absent, abort: EventKind) -> EventKind {
    match absent {
        Absent::BadStream => EventKind::C_BAD_STREAMID,
        Absent::Abort(_) => abort,
    }
}
