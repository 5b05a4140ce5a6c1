//! Entries of the PRI queue (IHI 0070, chapter 8).

#[cfg(feature = "fields")]
use crate::layout::Layout;

#[cfg(feature = "fields")]
pub(super) const ALL: &[&Layout] = &[&page_request::LAYOUT];

/// Fields of [`PriRecord`](crate::PriRecord).
pub mod page_request {
    use crate::PriRecord;

    crate::layout::fields! {
        PriRecord, "PRI queue entry", "8", 128;
        /// The StreamID; bits 15:0 are the PCIe RequesterID.
        STREAMID "StreamID" 31:0 hex;
        /// The PASID; unknown without SSV.
        SUBSTREAMID "SubstreamID" 51:32 hex;
        /// Whether privileged access is asked for.
        PRIV "Priv" 58:58 flag("no", "yes");
        /// Whether execution is asked for.
        X "X" 59:59 flag("no", "yes");
        /// Whether reading is asked for.
        R "R" 60:60 flag("no", "yes");
        /// Whether writing is asked for.
        W "W" 61:61 flag("no", "yes");
        /// Whether the group is complete.
        LAST "Last" 62:62 flag("more of the group may come", "last of the group");
        /// Whether the request has a PASID.
        SSV "SSV" 63:63 flag("no SubstreamID", "SubstreamID valid");
        /// The group that the request is of.
        PRGINDEX "PRGIndex" 72:64 number;
        /// The page.
        PAGEADDRESS "PageAddress" 127:76 address;
    }
}
