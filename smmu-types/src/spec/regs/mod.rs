//! The register map (IHI 0070, chapter 6), with width and access rights as types.
//!
//! Every Non-secure register of pages 0 and 1 is a constant here. [`vatos`] and [`ecmdq`] give the
//! places of the registers of optional pages. [`fields`](crate::fields) has the fields of each, by
//! name and with their meaning. The modules `cr0`, `gbpa`, ... here hold the same bits as masks,
//! for a driver's `&` and `|`.
//!
//! ```compile_fail
//! use smmu_types::{regs, seam::{Registers, RegistersExt}};
//! fn wrong(r: &impl Registers) {
//!     r.write(regs::IDR0, 0); // read-only: does not compile
//! }
//! ```

use core::marker::PhantomData;

use crate::spec::sealed::Sealed;

mod masks;
mod pages;
pub mod queue_base;
pub mod strtab;
#[cfg(all(test, feature = "fields"))]
mod tests;
pub mod vcmdq;

pub use masks::{
    cmdq_cons, cr0, cr1, cr2, dpt_cfg_far, gatos_ctrl, gbpa, gbpmpam, gerror, gmpam, irq_cfg2,
    irq_ctrl, priq_irq_cfg2, queue_pointer, statusr,
};
pub use pages::{ecmdq, vatos};

/// Size of the register window: page 0 and page 1, 64 KiB each.
pub const WINDOW: u32 = 0x2_0000;

/// Reading is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Ro;
/// Reading and writing are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rw;

/// Access rights as a value.
///
/// They are those of the register list of 6.2. Many registers are writable only while a feature is
/// off; the driver must check that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessRights {
    /// Writes are ignored.
    ReadOnly,
    /// Reading and writing are allowed.
    ReadWrite,
}

/// Access rights as a type: [`Ro`] or [`Rw`].
pub trait Rights: Sealed {
    /// The rights as a value.
    const ACCESS: AccessRights;
}
impl Rights for Ro {
    const ACCESS: AccessRights = AccessRights::ReadOnly;
}
impl Rights for Rw {
    const ACCESS: AccessRights = AccessRights::ReadWrite;
}

/// Access rights that include reading.
pub trait Readable {}
/// Access rights that include writing.
pub trait Writable {}
impl Readable for Ro {}
impl Readable for Rw {}
impl Writable for Rw {}

/// Widths of a register: `u32` and `u64`.
pub trait Width: Copy + Sealed {
    /// The number of bits.
    const BITS: u16;
}

impl Sealed for u32 {}
impl Sealed for u64 {}
impl Sealed for Ro {}
impl Sealed for Rw {}

impl Width for u32 {
    const BITS: u16 = 32;
}

impl Width for u64 {
    const BITS: u16 = 64;
}

/// One register: its offset, its width `W` and its access rights `A`.
#[derive(Debug)]
pub struct Reg<W, A> {
    offset: u32,
    name: &'static str,
    marker: PhantomData<fn() -> (W, A)>,
}

impl<W, A> Clone for Reg<W, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W, A> Copy for Reg<W, A> {}

impl<W, A> Reg<W, A> {
    pub(crate) const fn new(offset: u32, name: &'static str) -> Self {
        Reg { offset, name, marker: PhantomData }
    }

    /// Bytes from the base of page 0.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.offset
    }

    /// The architecture's name, without the `SMMU_` prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident: $width:ty, $access:ty, $offset:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: Reg<$width, $access> = Reg::new($offset, stringify!($name));
        )*

        /// The name of the register at `offset`, for traces.
        ///
        /// The registers of all command queue control pages share one name. Places in page 0 that
        /// may be aliases of page 1 registers (6.2) have the names of those registers.
        #[must_use]
        pub const fn name_of(offset: u32) -> Option<&'static str> {
            match offset {
                $($offset => Some(stringify!($name)),)*
                0xa8 => Some("EVENTQ_PROD"),
                0xac => Some("EVENTQ_CONS"),
                0xc8 => Some("PRIQ_PROD"),
                0xcc => Some("PRIQ_CONS"),
                0x4000..0x6000 => match offset % CMDQ_CONTROL_PAGE_STRIDE {
                    0x0 => Some("CMDQ_CONTROL_PAGE_BASE"),
                    0x8 => Some("CMDQ_CONTROL_PAGE_CFG"),
                    0xc => Some("CMDQ_CONTROL_PAGE_STATUS"),
                    _ => None,
                },
                _ => None,
            }
        }

        #[cfg(all(test, feature = "fields"))]
        const ALL: &[(&str, u32, u16, AccessRights)] = &[
            $((stringify!($name), $offset, <$width as Width>::BITS, <$access as Rights>::ACCESS),)*
        ];
    };
}

registers! {
    /// Features 0.
    IDR0: u32, Ro, 0x00;
    /// Features 1: sizes.
    IDR1: u32, Ro, 0x04;
    /// Features 2: the place of the virtual ATOS page.
    IDR2: u32, Ro, 0x08;
    /// Features 3.
    IDR3: u32, Ro, 0x0c;
    /// Features 4: implementation defined.
    IDR4: u32, Ro, 0x10;
    /// Features 5: address sizes and granules.
    IDR5: u32, Ro, 0x14;
    /// Implementer, product and revision.
    IIDR: u32, Ro, 0x18;
    /// Architecture version.
    AIDR: u32, Ro, 0x1c;
    /// Control 0: enables.
    CR0: u32, Rw, 0x20;
    /// The part of `CR0` that has taken effect.
    CR0ACK: u32, Ro, 0x24;
    /// Control 1: memory attributes of tables and queues.
    CR1: u32, Rw, 0x28;
    /// Control 2.
    CR2: u32, Rw, 0x2c;
    /// The meaning of the permission indices of stage 2.
    S2PII: u64, Rw, 0x30;
    /// Whether the SMMU is dormant.
    STATUSR: u32, Ro, 0x40;
    /// The attributes of transactions while translation is off.
    GBPA: u32, Rw, 0x44;
    /// As `GBPA`, implementation defined.
    AGBPA: u32, Rw, 0x48;
    /// Interrupt enables.
    IRQ_CTRL: u32, Rw, 0x50;
    /// The part of `IRQ_CTRL` that has taken effect.
    IRQ_CTRLACK: u32, Ro, 0x54;
    /// Global errors. An error is active while its bit differs from `GERRORN`.
    GERROR: u32, Ro, 0x60;
    /// Acknowledged global errors.
    GERRORN: u32, Rw, 0x64;
    /// MSI of global errors: address.
    GERROR_IRQ_CFG0: u64, Rw, 0x68;
    /// MSI of global errors: data.
    GERROR_IRQ_CFG1: u32, Rw, 0x70;
    /// MSI of global errors: attributes.
    GERROR_IRQ_CFG2: u32, Rw, 0x74;
    /// Stream table base.
    STRTAB_BASE: u64, Rw, 0x80;
    /// Stream table size and format.
    STRTAB_BASE_CFG: u32, Rw, 0x88;
    /// Command queue base and size.
    CMDQ_BASE: u64, Rw, 0x90;
    /// Command queue producer.
    CMDQ_PROD: u32, Rw, 0x98;
    /// Command queue consumer and error code.
    CMDQ_CONS: u32, Rw, 0x9c;
    /// Event queue base and size.
    EVENTQ_BASE: u64, Rw, 0xa0;
    /// MSI of the event queue: address.
    EVENTQ_IRQ_CFG0: u64, Rw, 0xb0;
    /// MSI of the event queue: data.
    EVENTQ_IRQ_CFG1: u32, Rw, 0xb8;
    /// MSI of the event queue: attributes.
    EVENTQ_IRQ_CFG2: u32, Rw, 0xbc;
    /// PRI queue base and size.
    PRIQ_BASE: u64, Rw, 0xc0;
    /// MSI of the PRI queue: address.
    PRIQ_IRQ_CFG0: u64, Rw, 0xd0;
    /// MSI of the PRI queue: data.
    PRIQ_IRQ_CFG1: u32, Rw, 0xd8;
    /// MSI of the PRI queue: attributes.
    PRIQ_IRQ_CFG2: u32, Rw, 0xdc;
    /// Address translation operation: start.
    GATOS_CTRL: u32, Rw, 0x100;
    /// Address translation operation: the stream.
    GATOS_SID: u64, Rw, 0x108;
    /// Address translation operation: the address and the kind of access.
    GATOS_ADDR: u64, Rw, 0x110;
    /// Address translation operation: the result.
    GATOS_PAR: u64, Ro, 0x118;
    /// Largest MPAM numbers.
    MPAMIDR: u32, Ro, 0x130;
    /// MPAM numbers of the SMMU's own accesses.
    GMPAM: u32, Rw, 0x138;
    /// MPAM numbers of transactions while translation is off.
    GBPMPAM: u32, Rw, 0x13c;
    /// The VMID that may use virtual ATOS.
    VATOS_SEL: u32, Rw, 0x180;
    /// Features 6: pages and queues of the enhanced command queue interface.
    IDR6: u32, Ro, 0x190;
    /// Device permission table base.
    DPT_BASE: u64, Rw, 0x200;
    /// Device permission table size.
    DPT_BASE_CFG: u32, Rw, 0x208;
    /// The last fault of a device permission table lookup.
    DPT_CFG_FAR: u64, Rw, 0x210;
    /// Peripheral identification 4.
    PIDR4: u32, Ro, 0xfd0;
    /// Peripheral identification 5: reserved.
    PIDR5: u32, Ro, 0xfd4;
    /// Peripheral identification 6: reserved.
    PIDR6: u32, Ro, 0xfd8;
    /// Peripheral identification 7: reserved.
    PIDR7: u32, Ro, 0xfdc;
    /// Peripheral identification 0.
    PIDR0: u32, Ro, 0xfe0;
    /// Peripheral identification 1.
    PIDR1: u32, Ro, 0xfe4;
    /// Peripheral identification 2.
    PIDR2: u32, Ro, 0xfe8;
    /// Peripheral identification 3.
    PIDR3: u32, Ro, 0xfec;
    /// Component identification 0.
    CIDR0: u32, Ro, 0xff0;
    /// Component identification 1.
    CIDR1: u32, Ro, 0xff4;
    /// Component identification 2.
    CIDR2: u32, Ro, 0xff8;
    /// Component identification 3.
    CIDR3: u32, Ro, 0xffc;
    /// Event queue producer.
    EVENTQ_PROD: u32, Rw, 0x1_00a8;
    /// Event queue consumer.
    EVENTQ_CONS: u32, Rw, 0x1_00ac;
    /// PRI queue producer.
    PRIQ_PROD: u32, Rw, 0x1_00c8;
    /// PRI queue consumer.
    PRIQ_CONS: u32, Rw, 0x1_00cc;
}

/// The largest number of command queue control pages.
pub const CMDQ_CONTROL_PAGES: u16 = 256;
/// Bytes from the registers of one command queue control page to those of the next.
pub const CMDQ_CONTROL_PAGE_STRIDE: u32 = 32;

/// The place of command queue control page `n`.
#[must_use]
pub const fn cmdq_control_page_base(n: u8) -> Reg<u64, Ro> {
    Reg::new(0x4000 + CMDQ_CONTROL_PAGE_STRIDE * n as u32, "CMDQ_CONTROL_PAGE_BASE")
}

/// Whether command queue control page `n` is enabled. It always is.
#[must_use]
pub const fn cmdq_control_page_cfg(n: u8) -> Reg<u32, Ro> {
    Reg::new(0x4008 + CMDQ_CONTROL_PAGE_STRIDE * n as u32, "CMDQ_CONTROL_PAGE_CFG")
}

/// The part of `CMDQ_CONTROL_PAGE_CFG` that has taken effect.
#[must_use]
pub const fn cmdq_control_page_status(n: u8) -> Reg<u32, Ro> {
    Reg::new(0x400c + CMDQ_CONTROL_PAGE_STRIDE * n as u32, "CMDQ_CONTROL_PAGE_STATUS")
}

/// Whether `offset` of page 0 is implementation defined.
#[must_use]
pub const fn is_implementation_defined(offset: u32) -> bool {
    matches!(offset, 0xe00..0xf00 | 0x1000..0x4000)
}

/// Whether `offset` lies in the half of page 0 that belongs to Secure state. Non-secure accesses
/// read zero there, and this crate has no constants for it.
#[must_use]
pub const fn is_secure(offset: u32) -> bool {
    matches!(offset, 0x8000..0x1_0000)
}
