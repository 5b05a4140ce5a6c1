//! The VMID of a virtual SMMU.

use core::fmt;

use smmu_types::seam::{CommandSink, SinkError};
use smmu_types::{CacheTag, Command, FlushProof, SmmuId, Vmid};

use crate::{FreshTag, InUseTag, RetiringTag};

/// The VMID of a virtual SMMU, from its creation to its end.
///
/// The guest controls its stage-1 tables, so all that is cached under the VMID belongs to the
/// virtual SMMU. Domains that are attached through it use its VMID and may flush it; they neither
/// allocate nor free it. A user asks the virtual SMMU for the VMID and never searches an array for
/// it. Share it as `&VsmmuVmid` or in an `Arc`:
///
/// ```
/// use smmu_tags::VmidSpace;
/// use smmu_types::fake::RecordingSink;
/// use smmu_types::{FlushProof, SmmuId, Vmid};
///
/// let sink = RecordingSink::new(); // your command queue
/// let space = VmidSpace::new(SmmuId(0), 16)?;
/// let vmid = space.allocate_for_vsmmu()?; // the virtual SMMU begins
/// assert_eq!(vmid.vmid(), Vmid(1));
/// vmid.flush_stage1(&sink)?; // a guest's TLBI, or a detach of one of its devices
///
/// let retiring = vmid.end(); // no STE names it any more
/// let proof = FlushProof::obtain(&sink, SmmuId(0), retiring.tag())?;
/// retiring.free(proof)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A user cannot end it:
///
/// ```compile_fail,E0507
/// use smmu_tags::VsmmuVmid;
///
/// fn wrong(of_the_vsmmu: &VsmmuVmid) {
///     of_the_vsmmu.end();
/// }
/// ```
///
/// A user's flush does not free it, because it returns no proof:
///
/// ```compile_fail,E0308
/// use smmu_tags::{RetiringTag, VsmmuVmid};
/// use smmu_types::fake::RecordingSink;
///
/// fn wrong(vmid: VsmmuVmid, sink: &RecordingSink) {
///     let flushed = vmid.flush(sink).unwrap();
///     vmid.end().free(flushed);
/// }
/// ```
///
/// Dropping it quarantines the number, as dropping an [`InUseTag`] does.
#[must_use = "dropping it quarantines the number"]
pub struct VsmmuVmid(InUseTag);

impl VsmmuVmid {
    pub(crate) fn new(fresh: FreshTag) -> Self {
        VsmmuVmid(fresh.install())
    }

    /// The VMID.
    #[must_use]
    pub fn vmid(&self) -> Vmid {
        match self.0.tag() {
            CacheTag::Vmid(vmid) => vmid,
            // Cannot happen: a space of VMIDs gives out VMIDs.
            CacheTag::Asid(_, asid) => Vmid(asid.0),
        }
    }

    /// The VMID as a tag.
    #[must_use]
    pub fn tag(&self) -> CacheTag {
        self.0.tag()
    }

    /// The SMMU that the VMID belongs to.
    #[must_use]
    pub fn smmu(&self) -> SmmuId {
        self.0.smmu()
    }

    /// Flushes all that is cached under the VMID, both stages, and waits for it. Any user may call
    /// it at any time.
    ///
    /// # Errors
    ///
    /// [`SinkError`] if the SMMU did not confirm the flush.
    pub fn flush<S: CommandSink + ?Sized>(&self, sink: &S) -> Result<(), SinkError> {
        FlushProof::obtain(sink, self.smmu(), self.tag()).map(|_not_after_its_end| ())
    }

    /// Flushes what the guest's stage 1 has cached under the VMID (`CMD_TLBI_NH_ALL`), and waits
    /// for it. Any user may call it at any time.
    ///
    /// # Errors
    ///
    /// [`SinkError`] if the SMMU did not confirm the flush.
    pub fn flush_stage1<S: CommandSink + ?Sized>(&self, sink: &S) -> Result<(), SinkError> {
        let (want, vmid) = (self.smmu(), self.vmid());
        let got = sink.run(want, &[Command::TlbiNhAll { vmid }])?.smmu();
        if got == want { Ok(()) } else { Err(SinkError::ForeignProof { want, got }) }
    }

    /// Ends the VMID. Call this when no STE that the SMMU can see names it any more.
    pub fn end(self) -> RetiringTag {
        self.0.retire()
    }
}

impl fmt::Debug for VsmmuVmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VsmmuVmid({} of {})", self.tag(), self.smmu())
    }
}
