//! Commands of the command queue (IHI 0070, chapter 4), as a Non-secure driver or a virtual SMMU
//! meets them.
//!
//! The tables have `SSec` and `NS`, because a malformed command may have them set. On the
//! Non-secure queue they are zero. `CMD_SYNC.MSI_NS` belongs to Realm queues, and is not here.

mod cfgi;
mod other;
mod prefetch;
mod tlbi;

pub use cfgi::*;
pub use other::*;
pub use prefetch::*;
pub use tlbi::*;

#[cfg(feature = "fields")]
use crate::layout::Layout;

macro_rules! opcodes {
    ($($opcode:literal $name:ident $($module:ident)?;)*) => {
        /// The opcodes as numbers.
        pub mod opcode {
            $(
                #[doc = concat!("`CMD_", stringify!($name), "`.")]
                pub const $name: u64 = $opcode;
            )*
        }

        #[cfg(feature = "fields")]
        pub(super) const ALL: &[&Layout] = &[$($(&$module::LAYOUT,)?)* &any_command::LAYOUT];

        /// The table of the command with this opcode, or `None` for an opcode without a table.
        /// Feature `fields`.
        #[cfg(feature = "fields")]
        #[must_use]
        pub fn command(opcode: u8) -> Option<&'static Layout> {
            Some(match opcode {
                $($($opcode => &$module::LAYOUT,)?)*
                _ => return None,
            })
        }

        /// The architecture's name of an opcode, without `CMD_`. Opcodes of Secure state and EL3
        /// have names as well. `IMPDEF_COMMAND` is any implementation defined opcode, 0x80 to 0x8f
        /// (4.1.1).
        #[must_use]
        pub const fn opcode_name(opcode: u8) -> Option<&'static str> {
            match opcode {
                $($opcode => Some(stringify!($name)),)*
                0x80..=0x8f => Some("IMPDEF_COMMAND"),
                _ => None,
            }
        }
    };
}

opcodes! {
    0x01 PREFETCH_CONFIG prefetch_config;
    0x02 PREFETCH_ADDR prefetch_addr;
    0x03 CFGI_STE cfgi_ste;
    0x04 CFGI_STE_RANGE cfgi_ste_range;
    0x05 CFGI_CD cfgi_cd;
    0x06 CFGI_CD_ALL cfgi_cd_all;
    0x07 CFGI_VMS_PIDM cfgi_vms_pidm;
    0x10 TLBI_NH_ALL tlbi_nh_all;
    0x11 TLBI_NH_ASID tlbi_nh_asid;
    0x12 TLBI_NH_VA tlbi_nh_va;
    0x13 TLBI_NH_VAA tlbi_nh_vaa;
    0x18 TLBI_EL3_ALL;
    0x1a TLBI_EL3_VA;
    0x20 TLBI_EL2_ALL tlbi_el2_all;
    0x21 TLBI_EL2_ASID tlbi_el2_asid;
    0x22 TLBI_EL2_VA tlbi_el2_va;
    0x23 TLBI_EL2_VAA tlbi_el2_vaa;
    0x28 TLBI_S12_VMALL tlbi_s12_vmall;
    0x2a TLBI_S2_IPA tlbi_s2_ipa;
    0x30 TLBI_NSNH_ALL tlbi_nsnh_all;
    0x40 ATC_INV atc_inv;
    0x41 PRI_RESP pri_resp;
    0x44 RESUME resume;
    0x45 STALL_TERM stall_term;
    0x46 SYNC sync;
    0x50 TLBI_S_EL2_ALL;
    0x51 TLBI_S_EL2_ASID;
    0x52 TLBI_S_EL2_VA;
    0x53 TLBI_S_EL2_VAA;
    0x58 TLBI_S_S12_VMALL;
    0x5a TLBI_S_S2_IPA;
    0x60 TLBI_SNH_ALL;
    0x70 DPTI_ALL dpti_all;
    0x73 DPTI_PA;
}

/// The field that every command has, for opcodes without a table of their own.
pub mod any_command {
    use crate::RawCommand;

    crate::layout::fields! {
        RawCommand, "command", "4.1", 128;
        /// The opcode.
        OPCODE "Opcode" 7:0 hex;
    }
}
