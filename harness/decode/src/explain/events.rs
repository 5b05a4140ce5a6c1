//! The events in general: what each means, its causes by frequency, and what to look at.

use smmu_types::EventKind;

/// What is told of an event.
pub(super) struct EventText {
    pub(super) means: &'static str,
    pub(super) causes: &'static [&'static str],
    pub(super) look: &'static [&'static str],
}

const fn text(
    means: &'static str,
    causes: &'static [&'static str],
    look: &'static [&'static str],
) -> EventText {
    EventText { means, causes, look }
}

const DEVICE: &str = "the device behind the StreamID: its driver's log at the same time";

/// What is told of an event; `None` for numbers that the architecture does not define.
pub(super) fn told(kind: EventKind) -> Option<EventText> {
    Some(match kind {
        EventKind::F_UUT => text(
            "the SMMU was sent a transaction of a kind that it does not support, and terminated it",
            &[
                "an interconnect or a device sends a kind of transaction that this SMMU does not take",
            ],
            &["the reason field, with the manual of this SMMU", DEVICE],
        ),
        EventKind::C_BAD_STREAMID => text(
            "the StreamID has no place in the stream table; recorded only with CR2.RECINVSID = 1",
            &[
                "firmware describes another StreamID (IORT, iommu-map) than the device sends; bridges and phantom functions send their own",
                "a two-level table has no second level for it: Span = 0, as for a device that was never attached",
                "STRTAB_BASE_CFG.LOG2SIZE is too small",
                "a level-1 descriptor was written without CFGI_STE with Leaf = 0",
            ],
            &[
                "STRTAB_BASE_CFG, and the level-1 descriptor of the StreamID: `explain --sid --strtab-cfg --l1std`",
            ],
        ),
        EventKind::F_STE_FETCH => text(
            "the read of the STE was aborted",
            &[
                "STRTAB_BASE or L2Ptr is not memory that the SMMU reaches",
                "the table was freed while the SMMU was on",
                "an uncorrectable memory error",
            ],
            &["FetchAddr, and STRTAB_BASE", "CR1 for the attributes of the access"],
        ),
        EventKind::C_BAD_STE => text(
            "the STE is invalid (V = 0), or illegal for this SMMU",
            &[
                "V = 0: the device does DMA and no driver has attached it, often since firmware left it running",
                "a field asks for a feature that the ID registers do not have",
                "the STE was written without CFGI_STE and a SYNC, and the SMMU uses an older one",
            ],
            &["the 8 words of the STE: `explain ste ... --idr ...` says which field is illegal"],
        ),
        EventKind::F_BAD_ATS_TREQ => text(
            "a device sent an ATS translation request that its stream does not allow",
            &[
                "ATS is on at the device and STE.EATS = 0",
                "the STE is invalid, or bypasses",
                "IDR0.ATS = 0",
            ],
            &["STE.EATS, and the ATS capability of the device"],
        ),
        EventKind::F_STREAM_DISABLED => text(
            "the STE allows no transaction without a SubstreamID (S1DSS = 0), or none with SubstreamID 0 (S1DSS = 2); the record has no SubstreamID, so it does not say which",
            &[
                "S1DSS = 2, which Linux mostly writes, and the device uses PASID 0",
                "S1DSS = 0, and the device sends traffic without a PASID: its PASID capability is off",
            ],
            &["STE.S1DSS and S1CDMax", "the PASID capability of the device"],
        ),
        EventKind::F_TRANSL_FORBIDDEN => text(
            "a device marked a transaction as translated already (ATS), and its stream may not do that",
            &[
                "ATS is on at the device, often left on by firmware, and STE.EATS = 0 while CR0.ATSCHK = 1",
                "STE.Config = 4 (bypass), as for an identity domain",
                "CR0.SMMUEN = 0 while the device still uses translations",
                "STE.EATS = 3, and the device permission table (DPT) refuses the address",
                "a device tries to reach physical memory past the SMMU",
            ],
            &[
                "the ATS capability of the device, STE.EATS, STE.Config, CR0.ATSCHK",
                "not C_BAD_STREAMID, which is event 0x02; turning the event queue off hides it only",
            ],
        ),
        EventKind::C_BAD_SUBSTREAMID => text(
            "the SubstreamID (PASID) has no place in the CD table",
            &[
                "S1CDMax = 0, or too small: the device uses PASIDs that no driver gave it",
                "the level-1 CD descriptor has V = 0",
                "the stream has no stage 1",
            ],
            &["STE.S1CDMax and S1Fmt", "IDR1.SSIDSIZE", "the PASID capability of the device"],
        ),
        EventKind::F_CD_FETCH => text(
            "the read of the CD was aborted",
            &[
                "S1ContextPtr is not memory that the SMMU reaches",
                "the CD table was freed too early",
                "nested: S1ContextPtr is an IPA, and stage 2 maps it to something else",
            ],
            &["FetchAddr, and STE.S1ContextPtr"],
        ),
        EventKind::C_BAD_CD => text(
            "the CD is invalid (V = 0), or illegal for this SMMU",
            &[
                "V = 0: nothing is attached to this SubstreamID, or no longer",
                "S1ContextPtr points elsewhere: in a guest, an address that means something else to the host",
                "a field asks for a feature that the ID registers do not have, such as a granule",
                "the CD was written without CFGI_CD and a SYNC",
            ],
            &["the 8 words of the CD: `explain cd ... --idr ...` says which field is illegal"],
        ),
        EventKind::F_WALK_EABT => text(
            "a table walk was aborted",
            &[
                "a table was freed while an entry still pointed to it",
                "a descriptor or TTB has a wrong address",
                "an uncorrectable memory error",
            ],
            &["FetchAddr, CLASS and S2", "CD.TTB0 or STE.S2TTB"],
        ),
        EventKind::F_TRANSLATION => text(
            "the address has no translation: the walk found an invalid entry, or the address is beyond what the table covers",
            &[
                "the buffer was unmapped while the device still used it: a driver that stops its device too late",
                "the device was given an address that was never mapped: a wrong base, a physical address, or 0 from an empty descriptor",
                "a write at page offset 0x040 is an MSI whose doorbell is not mapped in this domain",
                "the entry was not visible to the SMMU: no barrier, or no cache maintenance where IDR0.COHACC = 0",
                "the address has more bits than T0SZ or S2T0SZ covers, or EPD0 or EPD1 is set",
            ],
            &[
                "StreamID, InputAddr, RnW; with S2 = 1 also IPA and CLASS",
                DEVICE,
                "the entry that the walk reaches, at the indices that `decode` prints",
            ],
        ),
        EventKind::F_ADDR_SIZE => text(
            "an address that a table put out is larger than configured",
            &[
                "a descriptor is damaged, or is no descriptor",
                "CD.IPS or STE.S2PS is smaller than what is mapped; IPS above IDR5.OAS counts as OAS",
                "the start address of the table is too large",
            ],
            &["CD.IPS, STE.S2PS and IDR5.OAS", "the descriptors of the walk"],
        ),
        EventKind::F_ACCESS => text(
            "the entry is there, and its access flag is clear",
            &[
                "software that maps does not set AF, and hardware update is off",
                "a page that the CPU's software marked as old (shared virtual addressing)",
            ],
            &["CD.HA and AFFD, STE.S2HA and S2AFFD, IDR0.HTTU"],
        ),
        EventKind::F_PERMISSION => text(
            "the entry is there, and does not allow the access",
            &[
                "the device writes to a buffer that was mapped for reading: the wrong direction of DMA",
                "CLASS = TT: stage 2 does not let the SMMU read, or update, a stage-1 table; TTRnW says which",
                "dirty tracking: the entry is clean and writable, and CD.HD or STE.S2HD is 0",
                "an instruction fetch, or an unprivileged access, of a page that forbids it",
            ],
            &[
                "RnW, InD, PnU, S2 and CLASS",
                "AP or S2AP of the entry, APTable above it, and both stages",
            ],
        ),
        EventKind::F_TLB_CONFLICT => text(
            "the TLB found two entries for one address",
            &[
                "a block was replaced by a table, or back, without break-before-make",
                "an ASID or VMID is in use for two tables",
            ],
            &["IDR3.BBML, and the order of unmap, TLBI and SYNC, map"],
        ),
        EventKind::F_CFG_CONFLICT => text(
            "the configuration cache found two entries for one stream",
            &[
                "an STE or CD was changed without CFGI and a SYNC",
                "STE.CONT promises neighbours that are not alike",
            ],
            &["the Reason field, with the manual of this SMMU"],
        ),
        EventKind::E_PAGE_REQUEST => text(
            "a hint that a stream will soon need a page; nothing was refused",
            &["a device or an interconnect prefetches"],
            &["nothing: software may ignore the hint"],
        ),
        EventKind::F_VMS_FETCH => text(
            "the read of the virtual machine structure was aborted",
            &["STE.VMSPtr is not memory that the SMMU reaches"],
            &["STE.VMSPtr, and CFGI_VMS_PIDM after a change"],
        ),
        _ => return None,
    })
}
