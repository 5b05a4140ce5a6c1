//! Named components and root complexes.

use super::error::{IortError, IortProblem};
use super::kind::NodeKind;
use super::node::IortNode;
use crate::Coherency;

/// A node with ID mappings of devices: a named component or a root complex.
#[derive(Clone, Copy)]
pub struct IortDevice<'a> {
    pub(super) node: IortNode<'a>,
}

impl<'a> IortDevice<'a> {
    /// The byte of the table at which the node begins.
    #[must_use]
    pub fn at(&self) -> u32 {
        self.node.at
    }

    /// Root complex or named component.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        self.node.kind
    }

    /// The revision of the node.
    #[must_use]
    pub fn revision(&self) -> u8 {
        self.node.revision()
    }

    /// The PCI segment of a root complex.
    #[must_use]
    pub fn segment(&self) -> Option<u32> {
        self.node.word(28).filter(|_| self.kind() == NodeKind::RootComplex)
    }

    /// The full path of a named component in the ACPI namespace. `None` for a root complex.
    pub fn name(&self) -> Result<Option<&'a str>, IortError> {
        if self.kind() != NodeKind::NamedComponent {
            return Ok(None);
        }
        let bytes = self.node.bytes.get(29..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0);
        let name = end.and_then(|end| bytes.get(..end));
        let printable = |name: &&[u8]| name.iter().all(u8::is_ascii_graphic);
        let name = name.filter(|name| !name.is_empty()).filter(printable);
        let name = name.and_then(|name| core::str::from_utf8(name).ok());
        name.map(Some).ok_or(IortError { at: self.at() + 29, problem: IortProblem::Name })
    }

    /// Whether the device snoops caches: the cache coherency attribute of its memory accesses.
    #[must_use]
    pub fn coherency(&self) -> Coherency {
        let at = if self.kind() == NodeKind::RootComplex { 16 } else { 20 };
        match self.node.word(at) {
            Some(1) => Coherency::Coherent,
            _ => Coherency::NonCoherent,
        }
    }

    /// Whether a root complex passes ATS requests on.
    #[must_use]
    pub fn has_ats(&self) -> bool {
        self.kind() == NodeKind::RootComplex && self.node.word(24).unwrap_or(0) & 1 != 0
    }

    /// Whether a named component waits while software handles its fault.
    #[must_use]
    pub fn can_stall(&self) -> bool {
        self.kind() == NodeKind::NamedComponent && self.node.word(16).unwrap_or(0) & 1 != 0
    }

    /// The bits of the device's PASIDs, 0 for none.
    ///
    /// A root complex tells it from revision 4 on, a named component by bits 5:1 of its flags.
    #[must_use]
    pub fn pasid_bits(&self) -> u8 {
        let bits = match self.kind() {
            NodeKind::NamedComponent => self.node.word(16).unwrap_or(0) >> 1 & 0x1f,
            NodeKind::RootComplex if self.revision() >= 4 && self.node.has_field(40) => {
                let flagged = self.node.word(36).unwrap_or(0) & 1 != 0;
                let bits = u32::from(self.node.byte(33).unwrap_or(0)) & 0x1f;
                if flagged { bits } else { 0 }
            }
            _ => 0,
        };
        // Five bits.
        u8::try_from(bits).unwrap_or(0)
    }

    /// The bits of the addresses that the device can send, 0 if the table does not tell.
    #[must_use]
    pub fn address_bits(&self) -> u8 {
        let at = if self.kind() == NodeKind::RootComplex { 32 } else { 28 };
        self.node.byte(at).filter(|_| self.node.has_field(at + 1)).unwrap_or(0)
    }
}
