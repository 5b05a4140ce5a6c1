//! The command that would have dropped a cached translation.

use smmu_types::range::Span;
use smmu_types::{Command, Iova, Ipa, Leaf, Regime};

use crate::walk::space::Space;

/// The command that drops what a space has cached of one address; everything of its tag for an address that no
/// command can name.
pub(crate) fn tlbi_address(space: Space, of: Space, address: u64, leaf: Leaf) -> Command {
    let address = address & !0xfff;
    let command = match space {
        Space::Stage2 { vmid } => {
            Span::single(Ipa(address), leaf).map(|span| Command::TlbiS2Ipa { vmid, span })
        }
        Space::Stage1 { regime, vmid, asid } => Span::single(Iova(address), leaf).map(|span| {
            let own = match of {
                Space::Stage1 { asid, .. } => asid,
                Space::Stage2 { .. } => None,
            };
            match (regime, asid) {
                (Regime::El1, Some(asid)) => Command::TlbiNhVa { vmid, asid, span },
                (Regime::El1, None) => Command::TlbiNhVaa { vmid, span },
                (Regime::El2, asid) => {
                    Command::TlbiEl2Va { asid: asid.or(own).unwrap_or_default(), span }
                }
            }
        }),
    };
    command.unwrap_or_else(|_no_such_address| tlbi_tag(space))
}

/// The command that drops everything that a tag has cached.
pub(crate) fn tlbi_tag(space: Space) -> Command {
    match space {
        Space::Stage2 { vmid } => Command::TlbiS12Vmall { vmid },
        Space::Stage1 { regime: Regime::El1, vmid, asid: Some(asid) } => {
            Command::TlbiNhAsid { vmid, asid }
        }
        Space::Stage1 { regime: Regime::El1, vmid, asid: None } => Command::TlbiNhAll { vmid },
        Space::Stage1 { regime: Regime::El2, asid: Some(asid), .. } => {
            Command::TlbiEl2Asid { asid }
        }
        Space::Stage1 { regime: Regime::El2, asid: None, .. } => Command::TlbiEl2All,
    }
}
