//! Registers (IHI 0070, chapter 6), Non-secure.

mod atos;
mod control;
mod id;
mod interrupts;
mod memory;
#[cfg(feature = "fields")]
mod table;

pub use atos::*;
pub use control::*;
pub use id::*;
pub use interrupts::*;
pub use memory::*;
#[cfg(feature = "fields")]
pub use table::*;

/// A module for one register: a newtype over its bits, a [`Key`](crate::layout::Key) for each
/// field, and the table.
macro_rules! structure {
    (
        $(#[doc = $doc:literal])+
        $module:ident $structure:ident $bits:ident $width:literal $name:literal $section:literal;
        $($fields:tt)*
    ) => {
        $(#[doc = $doc])+
        pub mod $module {
            $(#[doc = $doc])+
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct $structure([u64; 1]);

            impl $structure {
                /// The register with this value.
                #[must_use]
                pub const fn from_bits(bits: $bits) -> Self {
                    $structure([bits as u64])
                }

                /// The register's value.
                #[must_use]
                pub const fn bits(self) -> $bits {
                    self.0[0] as $bits
                }
            }

            crate::layout::keyed!($structure);

            crate::layout::fields! {
                $structure, $name, $section, $width;
                $($fields)*
            }
        }
    };
}
use structure;
