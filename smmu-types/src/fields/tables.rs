//! Structures in memory (IHI 0070, chapter 5).

use crate::layout::Layout;

pub(super) const ALL: &[&Layout] = &[&ste::LAYOUT];

/// Fields of [`Ste`](crate::Ste).
pub mod ste {
    use crate::Ste;

    crate::layout::fields! {
        Ste, "STE", "5.2", 512;
        /// Whether the entry is valid.
        V "V" 0:0 flag("invalid: transactions end in C_BAD_STE", "valid");
        /// Which stages translate.
        CONFIG "Config" 3:1 choice(
            0 => "abort, without an event",
            4 => "both stages are bypassed",
            5 => "stage 1 translates, stage 2 is bypassed",
            6 => "stage 2 translates, stage 1 is bypassed",
            7 => "both stages translate",
        );
        /// The VMID that tags what is cached of this stream.
        S2VMID "S2VMID" 143:128 number;
    }
}
