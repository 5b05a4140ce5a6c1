//! ATS, page requests, device permissions, stalls and synchronization (IHI 0070, 4.5 to 4.7).

/// `CMD_ATC_INV`: translations that a device has cached.
pub mod atc_inv {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_ATC_INV", "4.5.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Whether entries of every PASID go; ignored without a SubstreamID.
        GLOBAL "Global" 9:9 flag("this PASID", "every PASID");
        /// Whether the command has a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The substream.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
        /// log2 of the 4 KiB pages; 52 is everything.
        SIZE "Size" 69:64 log2;
        /// The first address.
        ADDRESS "Address" 127:76 address;
    }
}

/// `CMD_PRI_RESP`: the answer to a page request group.
pub mod pri_resp {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_PRI_RESP", "4.5.2", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Whether the command has a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The substream.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
        /// The group that is answered.
        PRGINDEX "PRGIndex" 72:64 number;
        /// How the group went.
        RESP "Resp" 77:76 choice(0 => "ResponseFailure", 1 => "InvalidRequest", 2 => "Success");
    }
}

/// `CMD_DPTI_ALL`: all cached device permissions.
pub mod dpti_all {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_DPTI_ALL", "4.6.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
    }
}

/// `CMD_RESUME`: retries or ends one stalled transaction.
pub mod resume {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_RESUME", "4.7.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// What to do.
        AC "Ac" 12:12 flag("terminate", "retry");
        /// How to terminate; ignored for a retry and where `IDR0.TERM_MODEL` is set.
        AB "Ab" 13:13 flag("reads as zero, writes ignored", "abort");
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
        /// The tag of the event record.
        STAG "STAG" 79:64 hex;
    }
}

/// `CMD_STALL_TERM`: ends all stalled transactions of a stream.
pub mod stall_term {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_STALL_TERM", "4.7.2", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `CMD_SYNC`: complete when every command before it is complete.
pub mod sync {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_SYNC", "4.7.3", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// How completion is told.
        CS "CS" 13:12 choice(0 => "SIG_NONE", 1 => "SIG_IRQ", 2 => "SIG_SEV");
        /// Shareability of the MSI write.
        MSH "MSH" 23:22 choice(
            0 => "non-shareable",
            2 => "outer shareable",
            3 => "inner shareable",
        );
        /// Memory attributes of the MSI write, encoded as `STE.MemAttr`.
        MSIATTR "MSIAttr" 27:24 hex;
        /// The data of the MSI.
        MSIDATA "MSIData" 63:32 hex;
        /// Where the MSI goes; 0 sends none.
        MSIADDRESS "MSIAddress" 119:66 address;
    }
}
