//! Prefetches (IHI 0070, 4.2).

/// `CMD_PREFETCH_CONFIG`: read configuration ahead.
pub mod prefetch_config {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_PREFETCH_CONFIG", "4.2.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// Whether the command has a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The substream.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
    }
}

/// `CMD_PREFETCH_ADDR`: read translations ahead.
pub mod prefetch_addr {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "CMD_PREFETCH_ADDR", "4.2.2", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
        /// Which StreamIDs are meant; 1 is illegal on the Non-secure queue.
        SSEC "SSec" 10:10 flag("Non-secure", "Secure");
        /// Whether the command has a SubstreamID.
        SSV "SSV" 11:11 flag("no SubstreamID", "SubstreamID valid");
        /// The substream.
        SUBSTREAMID "SubstreamID" 31:12 hex;
        /// The stream.
        STREAMID "StreamID" 63:32 hex;
        /// Translations to read, as a power of two.
        SIZE "Size" 68:64 log2;
        /// log2 of the distance between them, in 4 KiB; reserved in SMMUv3.0.
        STRIDE "Stride" 73:69 log2;
        /// Which address space a Secure stage 2 is entered by; reserved on the Non-secure queue.
        NS "NS" 75:75 flag("Secure", "Non-secure");
        /// The first address.
        ADDRESS "Address" 127:76 address;
    }
}
