//! Records about translations (IHI 0070, 7.3.12 to 7.3.17).

/// `F_WALK_EABT`: a table walk met an external abort.
pub mod f_walk_eabt {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_WALK_EABT", "7.3.12", 256;
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
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// Address space of the IPA; set for Secure streams only.
        NSIPA "NSIPA" 102:102 flag("Secure IPA or Non-secure stream", "Non-secure IPA of a Secure stream");
        /// Stage of the fault.
        S2 "S2" 103:103 flag("stage 1", "stage 2");
        /// What was being accessed.
        CLASS "CLASS" 105:104 choice(
            0 => "CD fetch",
            1 => "stage-1 table fetch",
            2 => "input address",
        );
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
        /// The physical address that was fetched from.
        FETCHADDR "FetchAddr" 247:195 address;
    }
}

/// `F_TRANSLATION`: no translation.
pub mod f_translation {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_TRANSLATION", "7.3.13", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The tag to resume the transaction by.
        STAG "STAG" 79:64 hex;
        /// Whether the transaction waits.
        STALL "Stall" 95:95 flag("terminated", "stalled");
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// Address space of the IPA; set for Secure streams only.
        NSIPA "NSIPA" 102:102 flag("Secure IPA or Non-secure stream", "Non-secure IPA of a Secure stream");
        /// Stage of the fault.
        S2 "S2" 103:103 flag("stage 1", "stage 2");
        /// What was being accessed.
        CLASS "CLASS" 105:104 choice(
            0 => "CD fetch",
            1 => "stage-1 table fetch",
            2 => "input address",
        );
        /// What the implementation adds.
        IMPDEF "ImpDef" 127:112 impdef;
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
        /// The intermediate address; unknown for a fault of stage 1.
        IPA "IPA" 247:204 address;
    }
}

/// `F_ADDR_SIZE`: an address is too large.
pub mod f_addr_size {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_ADDR_SIZE", "7.3.14", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The tag to resume the transaction by.
        STAG "STAG" 79:64 hex;
        /// Whether the transaction waits.
        STALL "Stall" 95:95 flag("terminated", "stalled");
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// Address space of the IPA; set for Secure streams only.
        NSIPA "NSIPA" 102:102 flag("Secure IPA or Non-secure stream", "Non-secure IPA of a Secure stream");
        /// Stage of the fault.
        S2 "S2" 103:103 flag("stage 1", "stage 2");
        /// What was being accessed.
        CLASS "CLASS" 105:104 choice(
            0 => "CD fetch",
            1 => "stage-1 table fetch",
            2 => "input address",
        );
        /// What the implementation adds.
        IMPDEF "ImpDef" 127:112 impdef;
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
        /// The intermediate address; unknown for a fault of stage 1.
        IPA "IPA" 247:204 address;
    }
}

/// `F_ACCESS`: the access flag is clear.
pub mod f_access {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_ACCESS", "7.3.15", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The tag to resume the transaction by.
        STAG "STAG" 79:64 hex;
        /// Whether the transaction waits.
        STALL "Stall" 95:95 flag("terminated", "stalled");
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// Address space of the IPA; set for Secure streams only.
        NSIPA "NSIPA" 102:102 flag("Secure IPA or Non-secure stream", "Non-secure IPA of a Secure stream");
        /// Stage of the fault.
        S2 "S2" 103:103 flag("stage 1", "stage 2");
        /// What was being accessed.
        CLASS "CLASS" 105:104 choice(
            0 => "CD fetch",
            1 => "stage-1 table fetch",
            2 => "input address",
        );
        /// What the implementation adds.
        IMPDEF "ImpDef" 127:112 impdef;
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
        /// The intermediate address; unknown for a fault of stage 1.
        IPA "IPA" 247:204 address;
    }
}

/// `F_PERMISSION`: the access is not permitted.
pub mod f_permission {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_PERMISSION", "7.3.16", 256;
        /// The event number.
        EVENTNUMBER "EventNumber" 7:0 hex;
        /// Whether the transaction had a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The SubstreamID of the transaction.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The StreamID of the transaction.
        STREAMID "StreamID" 63:32 hex;
        /// The tag to resume the transaction by.
        STAG "STAG" 79:64 hex;
        /// Whether the transaction waits.
        STALL "Stall" 95:95 flag("terminated", "stalled");
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// Address space of the IPA; set for Secure streams only.
        NSIPA "NSIPA" 102:102 flag("Secure IPA or Non-secure stream", "Non-secure IPA of a Secure stream");
        /// Stage of the fault.
        S2 "S2" 103:103 flag("stage 1", "stage 2");
        /// What was being accessed.
        CLASS "CLASS" 105:104 choice(
            0 => "CD fetch",
            1 => "stage-1 table fetch",
            2 => "input address",
        );
        /// Direction of the table access that faulted; unknown unless CLASS is a table fetch.
        TTRNW "TTRnW" 108:108 flag("write", "read");
        /// What the implementation adds.
        IMPDEF "ImpDef" 127:112 impdef;
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
        /// The intermediate address; unknown for a fault of stage 1.
        IPA "IPA" 247:204 address;
    }
}

/// `F_TLB_CONFLICT`: conflicting TLB entries.
pub mod f_tlb_conflict {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "F_TLB_CONFLICT", "7.3.17", 256;
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
        /// Privilege of the transaction.
        PNU "PnU" 97:97 flag("unprivileged", "privileged");
        /// Kind of the transaction.
        IND "InD" 98:98 flag("data", "instruction");
        /// Direction of the transaction.
        RNW "RnW" 99:99 flag("write", "read");
        /// Address space of the IPA; set for Secure streams only.
        NSIPA "NSIPA" 102:102 flag("Secure IPA or Non-secure stream", "Non-secure IPA of a Secure stream");
        /// Stage of the fault.
        S2 "S2" 103:103 flag("stage 1", "stage 2");
        /// The address of the transaction.
        INPUTADDR "InputAddr" 191:128 hex;
        /// The intermediate address; unknown for a fault of stage 1.
        IPA "IPA" 247:204 address;
    }
}
