//! The command that would have dropped a cached translation.

use smmu_types::range::Span;
use smmu_types::{Command, Iova, Ipa, Leaf, Regime};

use crate::walk::space::Space;

/// The command that drops an entry of `space` for one address.
///
/// `of` is the space of the stream: it supplies the ASID for a global EL2 entry. If no
/// command can name the address, the result is the command that drops the whole tag.
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

/// The command that drops every entry of a tag.
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
