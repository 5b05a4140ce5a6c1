//! Event records (IHI 0070, 7.3) of Non-secure streams.

mod configuration;
mod translation;

pub use configuration::*;
pub use translation::*;

#[cfg(feature = "fields")]
use crate::EventKind;
#[cfg(feature = "fields")]
use crate::layout::Layout;

#[cfg(feature = "fields")]
macro_rules! events {
    ($($kind:ident $module:ident;)*) => {
        pub(super) const ALL: &[&Layout] = &[$(&$module::LAYOUT,)* &any::LAYOUT];

        /// The table of the records with this number. Implementation defined and reserved numbers
        /// have [`any`]. Feature `fields`.
        #[must_use]
        pub fn event(kind: EventKind) -> &'static Layout {
            match kind {
                $(EventKind::$kind => &$module::LAYOUT,)*
                _ => &any::LAYOUT,
            }
        }
    };
}

#[cfg(feature = "fields")]
events! {
    F_UUT f_uut;
    C_BAD_STREAMID c_bad_streamid;
    F_STE_FETCH f_ste_fetch;
    C_BAD_STE c_bad_ste;
    F_BAD_ATS_TREQ f_bad_ats_treq;
    F_STREAM_DISABLED f_stream_disabled;
    F_TRANSL_FORBIDDEN f_transl_forbidden;
    C_BAD_SUBSTREAMID c_bad_substreamid;
    F_CD_FETCH f_cd_fetch;
    C_BAD_CD c_bad_cd;
    F_WALK_EABT f_walk_eabt;
    F_TRANSLATION f_translation;
    F_ADDR_SIZE f_addr_size;
    F_ACCESS f_access;
    F_PERMISSION f_permission;
    F_TLB_CONFLICT f_tlb_conflict;
    F_CFG_CONFLICT f_cfg_conflict;
    E_PAGE_REQUEST e_page_request;
    F_VMS_FETCH f_vms_fetch;
}

/// The fields that every record has, for numbers without a table of their own.
pub mod any {
    use crate::EventRecord;

    crate::layout::fields! {
        EventRecord, "event", "7.3", 256;
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
