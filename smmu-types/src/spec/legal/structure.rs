//! The structures under the rules.

use crate::fields::strtab_base_cfg::StrtabBaseCfg;
use crate::{Cd, ContextTableDescriptor, Ste, StreamTableDescriptor};
#[cfg(feature = "fields")]
use crate::{fields, layout::Layout};

/// A structure under the rules. Its table has help texts, which a driver does not need.
pub(super) trait Structure {
    /// The architecture's name.
    const NAME: &'static str;
    /// The table of its fields.
    #[cfg(feature = "fields")]
    const LAYOUT: &'static Layout;
}

macro_rules! structures {
    ($($structure:ty: $name:literal, $module:ident;)*) => { $(
        impl Structure for $structure {
            const NAME: &'static str = $name;
            #[cfg(feature = "fields")]
            const LAYOUT: &'static Layout = &fields::$module::LAYOUT;
        }
    )* };
}

structures! {
    Ste: "STE", ste;
    Cd: "CD", cd;
    StrtabBaseCfg: "STRTAB_BASE_CFG", strtab_base_cfg;
    StreamTableDescriptor: "L1STD", l1std;
    ContextTableDescriptor: "L1CD", l1cd;
}
