//! Records about configuration and requests (IHI 0070, 7.3.2 to 7.3.11 and 7.3.18 to 7.3.20).

/// `F_UUT`: unsupported upstream transaction.
pub mod f_uut {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_UUT", "7.3.2", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The cause.
        REASON "Reason" 79:64 impdef;
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
    }
}

/// `C_BAD_STREAMID`: the StreamID is beyond the stream table.
pub mod c_bad_streamid {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "C_BAD_STREAMID", "7.3.3", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `F_STE_FETCH`: the STE could not be fetched.
pub mod f_ste_fetch {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_STE_FETCH", "7.3.4", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The cause.
        REASON "Reason" 79:64 impdef;
        /// Whether a granule protection check stopped the fetch.
        GPCF "GPCF" 80:80 flag("no granule protection check fault", "granule protection check fault");
        /// The physical address that was fetched from.
        FETCHADDR "FetchAddr" 247:195 address;
    }
}

/// `C_BAD_STE`: the STE is invalid or illegal.
pub mod c_bad_ste {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "C_BAD_STE", "7.3.5", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `F_BAD_ATS_TREQ`: an ATS request that is not allowed.
pub mod f_bad_ats_treq {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_BAD_ATS_TREQ", "7.3.6", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// Translation units that were asked for.
        SPAN "Span" 67:64 number;
        /// Whether privileged access was asked for.
        PRIV "PRIV" 92:92 flag("no", "yes");
        /// Whether execution was asked for.
        X "X" 93:93 flag("no", "yes");
        /// Whether writing was asked for.
        W "W" 94:94 flag("no", "yes");
        /// Whether reading was asked for.
        R "R" 95:95 flag("no", "yes");
        /// The page of the address.
        INPUTADDR "InputAddr" 191:140 address;
    }
}

/// `F_STREAM_DISABLED`: transactions without a substream, or of substream 0, are off.
pub mod f_stream_disabled {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_STREAM_DISABLED", "7.3.7", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `F_TRANSL_FORBIDDEN`: a translated transaction that is not allowed.
pub mod f_transl_forbidden {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_TRANSL_FORBIDDEN", "7.3.8", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
    }
}

/// `C_BAD_SUBSTREAMID`: the SubstreamID has no CD.
pub mod c_bad_substreamid {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "C_BAD_SUBSTREAMID", "7.3.9", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// The SubstreamID; always valid.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `F_CD_FETCH`: the CD could not be fetched.
pub mod f_cd_fetch {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_CD_FETCH", "7.3.10", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The cause.
        REASON "Reason" 79:64 impdef;
        /// Whether a granule protection check stopped the fetch.
        GPCF "GPCF" 80:80 flag("no granule protection check fault", "granule protection check fault");
        /// The physical address that was fetched from.
        FETCHADDR "FetchAddr" 247:195 address;
    }
}

/// `C_BAD_CD`: the CD is invalid or illegal.
pub mod c_bad_cd {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "C_BAD_CD", "7.3.11", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `F_CFG_CONFLICT`: conflicting configuration.
pub mod f_cfg_conflict {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_CFG_CONFLICT", "7.3.18", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The cause.
        REASON "Reason" 95:64 impdef;
    }
}

/// `E_PAGE_REQUEST`: a hint of accesses to come.
pub mod e_page_request {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "E_PAGE_REQUEST", "7.3.19", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// Unprivileged execution is to come.
        UX "uX" 97:97 flag("no", "yes");
        /// Unprivileged writing is to come.
        UW "uW" 98:98 flag("no", "yes");
        /// Unprivileged reading is to come.
        UR "uR" 99:99 flag("no", "yes");
        /// Privileged execution is to come.
        PX "pX" 101:101 flag("no", "yes");
        /// Privileged writing is to come.
        PW "pW" 102:102 flag("no", "yes");
        /// Privileged reading is to come.
        PR "pR" 103:103 flag("no", "yes");
        /// The number of 4 KiB pages.
        SPAN "Span" 115:108 number;
        /// The page of the address.
        INPUTADDR "InputAddr" 191:140 address;
    }
}

/// `F_VMS_FETCH`: the VMS could not be fetched.
pub mod f_vms_fetch {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_VMS_FETCH", "7.3.20", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The cause.
        REASON "Reason" 79:64 impdef;
        /// Whether a granule protection check stopped the fetch.
        GPCF "GPCF" 80:80 flag("no granule protection check fault", "granule protection check fault");
        /// The physical address that was fetched from.
        FETCHADDR "FetchAddr" 247:195 address;
    }
}
