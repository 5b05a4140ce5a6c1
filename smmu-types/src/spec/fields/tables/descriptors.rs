//! The small structures: level-1 descriptors and the Virtual Machine Structure.

/// Fields of [`StreamTableDescriptor`](crate::StreamTableDescriptor).
pub mod l1std {
    use crate::StreamTableDescriptor;

    crate::layout::fields! {
        StreamTableDescriptor, "L1STD", "5.1", 64;
        /// One more than log2 of the number of STEs in the level-2 array; 0 and 12 to 31 mean that
        /// there is none.
        SPAN "Span" 4:0 number;
        /// Where the level-2 array of STEs is.
        L2PTR "L2Ptr" 55:6 address;
    }
}

/// Fields of [`ContextTableDescriptor`](crate::ContextTableDescriptor).
pub mod l1cd {
    use crate::ContextTableDescriptor;

    crate::layout::fields! {
        ContextTableDescriptor, "L1CD", "5.3", 64;
        /// Whether there is a level-2 table.
        V "V" 0:0 flag("invalid: transactions end in C_BAD_SUBSTREAMID", "valid");
        /// Where the level-2 table of CDs is.
        L2PTR "L2Ptr" 55:12 address;
    }
}

/// Fields of [`Vms`](crate::Vms).
pub mod vms {
    use crate::Vms;

    crate::layout::fields! {
        Vms, "VMS", "5.6", 512;
        /// The physical PARTID of virtual PARTID 0.
        PARTID_MAP0 "PARTID_MAP0" 15:0 number;
        /// The physical PARTID of virtual PARTID 1.
        PARTID_MAP1 "PARTID_MAP1" 31:16 number;
        /// The physical PARTID of virtual PARTID 2.
        PARTID_MAP2 "PARTID_MAP2" 47:32 number;
        /// The physical PARTID of virtual PARTID 3.
        PARTID_MAP3 "PARTID_MAP3" 63:48 number;
        /// The physical PARTID of virtual PARTID 4.
        PARTID_MAP4 "PARTID_MAP4" 79:64 number;
        /// The physical PARTID of virtual PARTID 5.
        PARTID_MAP5 "PARTID_MAP5" 95:80 number;
        /// The physical PARTID of virtual PARTID 6.
        PARTID_MAP6 "PARTID_MAP6" 111:96 number;
        /// The physical PARTID of virtual PARTID 7.
        PARTID_MAP7 "PARTID_MAP7" 127:112 number;
        /// The physical PARTID of virtual PARTID 8.
        PARTID_MAP8 "PARTID_MAP8" 143:128 number;
        /// The physical PARTID of virtual PARTID 9.
        PARTID_MAP9 "PARTID_MAP9" 159:144 number;
        /// The physical PARTID of virtual PARTID 10.
        PARTID_MAP10 "PARTID_MAP10" 175:160 number;
        /// The physical PARTID of virtual PARTID 11.
        PARTID_MAP11 "PARTID_MAP11" 191:176 number;
        /// The physical PARTID of virtual PARTID 12.
        PARTID_MAP12 "PARTID_MAP12" 207:192 number;
        /// The physical PARTID of virtual PARTID 13.
        PARTID_MAP13 "PARTID_MAP13" 223:208 number;
        /// The physical PARTID of virtual PARTID 14.
        PARTID_MAP14 "PARTID_MAP14" 239:224 number;
        /// The physical PARTID of virtual PARTID 15.
        PARTID_MAP15 "PARTID_MAP15" 255:240 number;
        /// The physical PARTID of virtual PARTID 16.
        PARTID_MAP16 "PARTID_MAP16" 271:256 number;
        /// The physical PARTID of virtual PARTID 17.
        PARTID_MAP17 "PARTID_MAP17" 287:272 number;
        /// The physical PARTID of virtual PARTID 18.
        PARTID_MAP18 "PARTID_MAP18" 303:288 number;
        /// The physical PARTID of virtual PARTID 19.
        PARTID_MAP19 "PARTID_MAP19" 319:304 number;
        /// The physical PARTID of virtual PARTID 20.
        PARTID_MAP20 "PARTID_MAP20" 335:320 number;
        /// The physical PARTID of virtual PARTID 21.
        PARTID_MAP21 "PARTID_MAP21" 351:336 number;
        /// The physical PARTID of virtual PARTID 22.
        PARTID_MAP22 "PARTID_MAP22" 367:352 number;
        /// The physical PARTID of virtual PARTID 23.
        PARTID_MAP23 "PARTID_MAP23" 383:368 number;
        /// The physical PARTID of virtual PARTID 24.
        PARTID_MAP24 "PARTID_MAP24" 399:384 number;
        /// The physical PARTID of virtual PARTID 25.
        PARTID_MAP25 "PARTID_MAP25" 415:400 number;
        /// The physical PARTID of virtual PARTID 26.
        PARTID_MAP26 "PARTID_MAP26" 431:416 number;
        /// The physical PARTID of virtual PARTID 27.
        PARTID_MAP27 "PARTID_MAP27" 447:432 number;
        /// The physical PARTID of virtual PARTID 28.
        PARTID_MAP28 "PARTID_MAP28" 463:448 number;
        /// The physical PARTID of virtual PARTID 29.
        PARTID_MAP29 "PARTID_MAP29" 479:464 number;
        /// The physical PARTID of virtual PARTID 30.
        PARTID_MAP30 "PARTID_MAP30" 495:480 number;
        /// The physical PARTID of virtual PARTID 31.
        PARTID_MAP31 "PARTID_MAP31" 511:496 number;
    }
}
