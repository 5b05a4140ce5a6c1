//! Configuration invalidation (IHI 0070, 4.3).

/// `CMD_CFGI_STE`: forget the STE of one stream.
pub mod cfgi_ste {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_CFGI_STE", "4.3.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("STE and level-1 descriptor", "STE only");
    }
}

/// `CMD_CFGI_STE_RANGE`: forget a range of STEs; `CMD_CFGI_ALL` with Range 31 (4.3.6).
pub mod cfgi_ste_range {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_CFGI_STE_RANGE", "4.3.2", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// A stream of the range; ignored where Range is 31.
        STREAMID "StreamID" 63:32 hex;
        /// log2 of the number of STEs, less one; 31 is `CMD_CFGI_ALL`.
        RANGE "Range" 68:64 number;
    }
}

/// `CMD_CFGI_CD`: forget one CD.
pub mod cfgi_cd {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_CFGI_CD", "4.3.3", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// The index of the CD; 0 for a stream without substreams.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
        /// What may have changed.
        LEAF "Leaf" 64:64 flag("CD and level-1 descriptor", "CD only");
    }
}

/// `CMD_CFGI_CD_ALL`: forget all CDs of a stream.
pub mod cfgi_cd_all {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_CFGI_CD_ALL", "4.3.4", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `CMD_CFGI_VMS_PIDM`: forget a PARTID map that is cached by VMID.
pub mod cfgi_vms_pidm {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_CFGI_VMS_PIDM", "4.3.5", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// The VMID.
        VMID "VMID" 47:32 number;
    }
}
