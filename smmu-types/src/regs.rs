//! The register map (IHI 0070, chapter 6), with width and access rights as types.
//!
//! ```compile_fail
//! use smmu_types::{regs, seam::{Registers, RegistersExt}};
//! fn wrong(r: &impl Registers) {
//!     r.write(regs::IDR0, 0); // read-only: does not compile
//! }
//! ```

use core::marker::PhantomData;

use crate::seam::Registers;

/// Size of the register window: page 0 and page 1, 64 KiB each.
pub const WINDOW: u32 = 0x2_0000;

/// Reading is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Ro;
/// Reading and writing are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rw;

/// Access rights that include reading.
pub trait Readable {}
/// Access rights that include writing.
pub trait Writable {}
impl Readable for Ro {}
impl Readable for Rw {}
impl Writable for Rw {}

/// Widths of a register: `u32` and `u64`.
pub trait Width: Copy + sealed::Sealed {
    #[doc(hidden)]
    fn read<R: Registers + ?Sized>(registers: &R, offset: u32) -> Self;
    #[doc(hidden)]
    fn write<R: Registers + ?Sized>(registers: &R, offset: u32, value: Self);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

impl Width for u32 {
    fn read<R: Registers + ?Sized>(registers: &R, offset: u32) -> Self {
        registers.read32(offset)
    }
    fn write<R: Registers + ?Sized>(registers: &R, offset: u32, value: Self) {
        registers.write32(offset, value);
    }
}

impl Width for u64 {
    fn read<R: Registers + ?Sized>(registers: &R, offset: u32) -> Self {
        registers.read64(offset)
    }
    fn write<R: Registers + ?Sized>(registers: &R, offset: u32, value: Self) {
        registers.write64(offset, value);
    }
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
    const fn new(offset: u32, name: &'static str) -> Self {
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
        #[must_use]
        pub const fn name_of(offset: u32) -> Option<&'static str> {
            match offset {
                $($offset => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

registers! {
    /// Features 0.
    IDR0: u32, Ro, 0x00;
    /// Features 1: sizes.
    IDR1: u32, Ro, 0x04;
    /// Features 2.
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
    /// What of `CR0` has taken effect.
    CR0ACK: u32, Ro, 0x24;
    /// Control 1: memory attributes of tables and queues.
    CR1: u32, Rw, 0x28;
    /// Control 2.
    CR2: u32, Rw, 0x2c;
    /// What happens to transactions while translation is off.
    GBPA: u32, Rw, 0x44;
    /// Interrupt enables.
    IRQ_CTRL: u32, Rw, 0x50;
    /// What of `IRQ_CTRL` has taken effect.
    IRQ_CTRLACK: u32, Ro, 0x54;
    /// Global errors; a bit that differs from `GERRORN` is active.
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
    /// Event queue producer.
    EVENTQ_PROD: u32, Rw, 0x1_00a8;
    /// Event queue consumer.
    EVENTQ_CONS: u32, Rw, 0x1_00ac;
    /// PRI queue producer.
    PRIQ_PROD: u32, Rw, 0x1_00c8;
    /// PRI queue consumer.
    PRIQ_CONS: u32, Rw, 0x1_00cc;
}

/// Fields of `CR0` and `CR0ACK`.
pub mod cr0 {
    /// Translation is on.
    pub const SMMUEN: u32 = 1 << 0;
    /// The PRI queue is on.
    pub const PRIQEN: u32 = 1 << 1;
    /// The event queue is on.
    pub const EVENTQEN: u32 = 1 << 2;
    /// The command queue is on.
    pub const CMDQEN: u32 = 1 << 3;
    /// ATS behaviour is checked.
    pub const ATSCHK: u32 = 1 << 4;
}

/// Fields of `CR1`: queue attributes in bits 5:0, table attributes in bits 11:6.
pub mod cr1 {
    /// Inner Shareable, Write-Back inside and outside, for tables and queues.
    pub const COHERENT: u32 = 3 << 10 | 1 << 8 | 1 << 6 | 3 << 4 | 1 << 2 | 1;
    /// Outer Shareable, Non-cacheable, for tables and queues.
    pub const NON_COHERENT: u32 = 2 << 10 | 2 << 4;
}

/// Fields of `CR2`.
pub mod cr2 {
    /// EL2 with E2H.
    pub const E2H: u32 = 1 << 0;
    /// Invalid StreamIDs are recorded.
    pub const RECINVSID: u32 = 1 << 1;
    /// Broadcast TLB maintenance is ignored.
    pub const PTM: u32 = 1 << 2;
}

/// Fields of `GBPA`.
pub mod gbpa {
    /// All transactions are aborted.
    pub const ABORT: u32 = 1 << 20;
    /// A write takes effect when this reads 0 again.
    pub const UPDATE: u32 = 1 << 31;
}

/// Fields of `IRQ_CTRL` and `IRQ_CTRLACK`.
pub mod irq_ctrl {
    /// Global errors.
    pub const GERROR: u32 = 1 << 0;
    /// PRI queue.
    pub const PRIQ: u32 = 1 << 1;
    /// Event queue.
    pub const EVENTQ: u32 = 1 << 2;
}

/// Fields of `GERROR` and `GERRORN`.
pub mod gerror {
    /// The command queue stopped at a command; see `CMDQ_CONS.ERR`.
    pub const CMDQ: u32 = 1 << 0;
    /// A write to the event queue was aborted.
    pub const EVENTQ_ABT: u32 = 1 << 2;
    /// A write to the PRI queue was aborted.
    pub const PRIQ_ABT: u32 = 1 << 3;
    /// A `CMD_SYNC` MSI was aborted.
    pub const MSI_CMDQ_ABT: u32 = 1 << 4;
    /// An event queue MSI was aborted.
    pub const MSI_EVENTQ_ABT: u32 = 1 << 5;
    /// A PRI queue MSI was aborted.
    pub const MSI_PRIQ_ABT: u32 = 1 << 6;
    /// A global error MSI was aborted.
    pub const MSI_GERROR_ABT: u32 = 1 << 7;
    /// The SMMU is in service failure mode.
    pub const SFM: u32 = 1 << 8;
    /// Every bit that is defined.
    pub const ALL: u32 = 0x1fd;
}

/// Fields of `CMDQ_CONS`.
pub mod cmdq_cons {
    use crate::CommandErrorCode;

    /// The error code, bits 30:24. Only meaningful while `GERROR.CMDQ` is active.
    #[must_use]
    pub const fn error(cons: u32) -> CommandErrorCode {
        CommandErrorCode((cons >> 24 & 0x7f) as u8)
    }
}

/// Fields of the queue base registers.
pub mod queue_base {
    use crate::queue::QueueSize;
    use crate::{LayoutError, PhysAddr, bits};

    /// Read-allocate (command queue) or write-allocate (event and PRI queue) hint.
    pub const ALLOCATE: u64 = 1 << 62;

    /// The register's value. The base is aligned to the size of the queue, and to at least 32 bytes.
    pub const fn encode(
        base: PhysAddr,
        size: QueueSize,
        entry_bytes: u64,
    ) -> Result<u64, LayoutError> {
        let bytes = (size.entries() as u64).saturating_mul(entry_bytes);
        let align = if bytes < 32 { 32 } else { bytes };
        if !base.0.is_multiple_of(align) {
            return Err(LayoutError::Misaligned { field: "ADDR", value: base.0, align });
        }
        match bits::address("ADDR", base.0, 51, 5) {
            Ok(address) => Ok(ALLOCATE | address | size.log2() as u64),
            Err(error) => Err(error),
        }
    }
}

/// Fields of `STRTAB_BASE` and `STRTAB_BASE_CFG`.
pub mod strtab {
    use crate::{LayoutError, PhysAddr, StreamTableDescriptor, bits};

    /// Read-allocate hint of `STRTAB_BASE`.
    pub const READ_ALLOCATE: u64 = 1 << 62;

    /// Two-level tables split the StreamID so that one L2 table has 2^8 STEs.
    pub const SPLIT: u32 = 8;

    /// Format and size of a stream table.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Format {
        /// One array of 2^`log2` STEs.
        Linear {
            /// log2 of the number of STEs.
            log2: u8,
        },
        /// An array of 2^(`log2` - 8) L1 descriptors, each pointing at 2^8 STEs.
        TwoLevel {
            /// log2 of the number of StreamIDs that it covers; above 8.
            log2: u8,
        },
    }

    impl Format {
        /// The value of `STRTAB_BASE_CFG`.
        #[must_use]
        pub const fn config(self) -> u32 {
            match self {
                Format::Linear { log2 } => log2 as u32 & 0x3f,
                Format::TwoLevel { log2 } => 1 << 16 | SPLIT << 6 | log2 as u32 & 0x3f,
            }
        }

        /// log2 of the number of StreamIDs that the table covers.
        #[must_use]
        pub const fn log2(self) -> u8 {
            match self {
                Format::Linear { log2 } | Format::TwoLevel { log2 } => log2,
            }
        }

        /// Bytes of the first level, or `None` for a size that the format cannot have: more than 32
        /// bits, or a two-level table of fewer bits than its second level covers.
        #[must_use]
        pub const fn bytes(self) -> Option<u64> {
            match self {
                Format::Linear { log2: 0..=32 } => Some(64 << self.log2()),
                Format::TwoLevel { log2: 8..=32 } => Some(8 << (self.log2() - SPLIT as u8)),
                _ => None,
            }
        }
    }

    /// The value of `STRTAB_BASE`. The base is aligned to the size of the table, and to at least
    /// 64 bytes.
    pub const fn base(address: PhysAddr, format: Format) -> Result<u64, LayoutError> {
        let Some(bytes) = format.bytes() else {
            let value = format.log2() as u64;
            return Err(LayoutError::TooLarge { field: "LOG2SIZE", value, max: 32 });
        };
        let align = if bytes < 64 { 64 } else { bytes.next_power_of_two() };
        if address.0 & (align - 1) != 0 {
            return Err(LayoutError::Misaligned {
                field: "STRTAB_BASE.ADDR",
                value: address.0,
                align,
            });
        }
        match bits::address("STRTAB_BASE.ADDR", address.0, 51, 6) {
            Ok(address) => Ok(READ_ALLOCATE | address),
            Err(error) => Err(error),
        }
    }

    /// A level-1 descriptor that points at a table of 2^8 STEs, aligned to 16 KiB.
    pub const fn l1_descriptor(l2: PhysAddr) -> Result<u64, LayoutError> {
        match StreamTableDescriptor::new(l2, SPLIT as u8) {
            Ok(descriptor) => Ok(descriptor.0[0]),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PhysAddr;
    use crate::queue::QueueSize;
    use rstest::rstest;

    #[rstest]
    #[case(IDR5.offset(), 0x14)]
    #[case(CR0ACK.offset(), 0x24)]
    #[case(GBPA.offset(), 0x44)]
    #[case(GERRORN.offset(), 0x64)]
    #[case(STRTAB_BASE.offset(), 0x80)]
    #[case(STRTAB_BASE_CFG.offset(), 0x88)]
    #[case(CMDQ_BASE.offset(), 0x90)]
    #[case(CMDQ_PROD.offset(), 0x98)]
    #[case(CMDQ_CONS.offset(), 0x9c)]
    #[case(EVENTQ_BASE.offset(), 0xa0)]
    #[case(EVENTQ_PROD.offset(), 0x100a8)]
    #[case(PRIQ_CONS.offset(), 0x100cc)]
    fn offsets(#[case] offset: u32, #[case] want: u32) {
        assert_eq!(offset, want);
    }

    #[test]
    fn values_that_a_real_model_took() {
        // QEMU's SMMUv3 came up with these.
        assert_eq!(cr1::COHERENT, 0xd75);
        assert_eq!(strtab::Format::Linear { log2: 8 }.config(), 8);
        assert_eq!(strtab::Format::TwoLevel { log2: 16 }.config(), 16 | 8 << 6 | 1 << 16);
        assert_eq!(strtab::l1_descriptor(PhysAddr(0x4004_0000)), Ok(0x4004_0009));
        let size = QueueSize::from_log2(6).unwrap();
        assert_eq!(queue_base::encode(PhysAddr(0x4001_0000), size, 16), Ok(1 << 62 | 0x4001_0006));
    }

    #[test]
    fn a_misaligned_base_is_refused_not_cut() {
        let size = QueueSize::from_log2(8).unwrap();
        assert!(queue_base::encode(PhysAddr(0x4000_0800), size, 16).is_err());
        assert!(strtab::base(PhysAddr(0x4000_0040), strtab::Format::Linear { log2: 4 }).is_err());
        for log2 in [33, 64, 255] {
            assert!(strtab::base(PhysAddr(0), strtab::Format::Linear { log2 }).is_err());
        }
        assert_eq!(strtab::Format::TwoLevel { log2: 7 }.bytes(), None);
        assert_eq!(strtab::Format::TwoLevel { log2: 32 }.bytes(), Some(8 << 24));
        assert!(strtab::l1_descriptor(PhysAddr(0x4000_1000)).is_err());
    }
}
