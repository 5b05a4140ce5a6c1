//! The IOMMUs of a device tree, by phandle.

use smmu_types::SmmuId;

use super::blob::{Blob, Node};
use super::error::{FdtError, FdtProblem};
use crate::firmware::mapping::Target;

/// An IOMMU that devices may refer to.
#[derive(Clone, Copy)]
pub(super) struct Iommu {
    pub(super) phandle: Option<u32>,
    /// `#iommu-cells`.
    pub(super) cells: u32,
    /// Where its node is.
    pub(super) at: u32,
    pub(super) smmu: Option<SmmuId>,
}

impl Iommu {
    pub(super) const fn target(self) -> Target {
        match self.smmu {
            Some(smmu) => Target::Smmu(smmu),
            None => Target::OtherIommu(self.at),
        }
    }
}

/// All of them, in the order of the tree.
#[derive(Clone, Copy)]
pub(super) struct Iommus<const N: usize> {
    all: [Iommu; N],
    count: usize,
}

impl<const N: usize> Iommus<N> {
    pub(super) fn new(blob: Blob<'_>) -> Result<Self, FdtError> {
        let none = Iommu { phandle: None, cells: 0, at: 0, smmu: None };
        let mut found = Self { all: [none; N], count: 0 };
        let mut smmus = 0;
        for node in blob.nodes() {
            let is_smmu = node.is_compatible("arm,smmu-v3");
            let cells = node.cell("#iommu-cells");
            if cells.is_none() && !is_smmu {
                continue;
            }
            // A tree without devices behind an SMMU may leave `#iommu-cells` out.
            let mut iommu = Iommu {
                phandle: node.phandle(),
                cells: cells.unwrap_or(1),
                at: node.at,
                smmu: None,
            };
            if is_smmu {
                iommu.smmu = Some(SmmuId(smmus));
                smmus += 1;
            }
            found.add(iommu)?;
        }
        Ok(found)
    }

    fn add(&mut self, iommu: Iommu) -> Result<(), FdtError> {
        if let (Some(phandle), Some(other)) =
            (iommu.phandle, iommu.phandle.and_then(|phandle| self.find(phandle)))
        {
            let problem = FdtProblem::SamePhandle { phandle, other: other.at };
            return Err(FdtError { at: iommu.at, problem });
        }
        let place = self.all.get_mut(self.count);
        let full = FdtError { at: iommu.at, problem: FdtProblem::TooManyIommus { room: N } };
        *place.ok_or(full)? = iommu;
        self.count += 1;
        Ok(())
    }

    pub(super) fn all(&self) -> &[Iommu] {
        self.all.get(..self.count).unwrap_or_default()
    }

    pub(super) fn find(&self, phandle: u32) -> Option<Iommu> {
        self.all().iter().copied().find(|iommu| iommu.phandle == Some(phandle))
    }

    /// The number of SMMUv3s.
    pub(super) fn smmus(&self) -> u16 {
        let smmus = self.all().iter().filter(|iommu| iommu.smmu.is_some()).count();
        u16::try_from(smmus).unwrap_or(u16::MAX)
    }

    pub(super) fn smmu<'a>(&self, blob: Blob<'a>, id: SmmuId) -> Result<Node<'a>, FdtError> {
        let found = self.all().iter().find(|iommu| iommu.smmu == Some(id));
        found.map(|iommu| Node { blob, at: iommu.at }).ok_or(FdtError {
            at: blob.root().at,
            problem: FdtProblem::NoSuchSmmu { asked: id.0, count: self.smmus() },
        })
    }
}
