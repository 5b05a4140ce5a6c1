//! Which interrupts an SMMU raises, by wire or by MSI (IHI 0070, 3.18).

use smmu_types::fields::gerror_irq_cfg0;
use smmu_types::regs::{self, Reg, Rw};
use smmu_types::seam::{Registers, RegistersExt};
use smmu_types::{Capabilities, FieldError, MsiAttributes, OutputSize, PhysAddr};

/// `*_IRQ_CFG0` to `*_IRQ_CFG2` of one interrupt.
pub(crate) type MsiRegisters = (Reg<u64, Rw>, Reg<u32, Rw>, Reg<u32, Rw>);

/// What they hold.
pub(crate) type MsiValues = (u64, u32, u32);

pub(crate) const MSI_REGISTERS: [MsiRegisters; 3] = [
    (regs::GERROR_IRQ_CFG0, regs::GERROR_IRQ_CFG1, regs::GERROR_IRQ_CFG2),
    (regs::EVENTQ_IRQ_CFG0, regs::EVENTQ_IRQ_CFG1, regs::EVENTQ_IRQ_CFG2),
    (regs::PRIQ_IRQ_CFG0, regs::PRIQ_IRQ_CFG1, regs::PRIQ_IRQ_CFG2),
];

/// Which interrupts the SMMU raises.
///
/// All of them are edges: the SMMU raises one when its queue becomes non-empty, or when an error
/// becomes active. It raises none for what happened before the interrupt was enabled (6.3.16). So
/// a driver that takes a queue with records over drains it once.
///
/// An interrupt is visible after what it tells of (3.18): a handler finds the record in its queue,
/// and the error in `GERROR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupts {
    /// Wired interrupts for global errors, for events, and for page requests if the PRI queue is
    /// on. MSIs are off.
    Wired,
    /// No interrupts: the driver polls the registers.
    Polled,
    /// The interrupts of [`Wired`](Self::Wired), as MSIs. [`Interrupts::msis`] makes this value.
    Msis(CheckedMsis),
    /// Those of the SMMU before it was suspended, MSIs included.
    Saved(SavedInterrupts),
}

impl Interrupts {
    /// Interrupts by MSI, on an SMMU with the capabilities `caps`.
    ///
    /// # Errors
    ///
    /// The SMMU sends no MSIs, or cannot send one of these.
    pub fn msis(caps: &Capabilities, msis: Msis) -> Result<Self, MsiError> {
        if !caps.msi {
            return Err(MsiError::NoMsis);
        }
        if msis.page_requests.is_some() && !caps.pri {
            return Err(MsiError::NoPageRequests);
        }
        let bits = caps.output_size.unwrap_or(OutputSize::Bits48).bits();
        let chosen = [msis.gerror, msis.events, msis.page_requests];
        let mut values = NO_MSIS;
        for ((value, (register, ..)), msi) in values.iter_mut().zip(MSI_REGISTERS).zip(chosen) {
            let Some(Msi { address, data, attributes }) = msi else { continue };
            if address >> bits != 0 {
                let (register, address) = (register.name(), PhysAddr(address));
                return Err(MsiError::BeyondOutputSize { register, address, bits });
            }
            let sh = attributes.shareability() as u32;
            *value = (address, data, sh << SH_SHIFT | u32::from(attributes.memory()));
        }
        Ok(Interrupts::Msis(CheckedMsis { values }))
    }
}

const SH_SHIFT: u32 = regs::irq_cfg2::SH.trailing_zeros();

/// Address 0 sends no MSI. `PRIQ_IRQ_CFG2.LO` is 0 also for a wired interrupt, so that each page
/// request into an empty queue interrupts.
pub(crate) const NO_MSIS: [MsiValues; 3] = [(0, 0, 0); 3];

/// An MSI: the SMMU writes 32 bits of data to an address.
///
/// For an interrupt of a GICv3: `GITS_TRANSLATER` with the EventID, or `GICD_SETSPI_NSR` with the
/// number of the SPI, each as [`MsiAttributes::DEVICE`]. The SMMU does not translate the address. The
/// ITS tells SMMUs apart by a DeviceID, which a firmware table maps (IORT, or `msi-parent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    address: u64,
    data: u32,
    attributes: MsiAttributes,
}

impl Msi {
    /// An MSI that writes `data` to `address`.
    ///
    /// # Errors
    ///
    /// The address is not aligned to 4 bytes, has more than 56 bits, or is 0, which means no MSI.
    pub const fn new(
        address: PhysAddr,
        data: u32,
        attributes: MsiAttributes,
    ) -> Result<Self, FieldError> {
        let field = gerror_irq_cfg0::ADDR;
        if address.0 == 0 {
            return Err(FieldError::Reserved { field: field.name(), value: 0 });
        }
        match field.place(address.0) {
            Ok(address) => Ok(Msi { address, data, attributes }),
            Err(error) => Err(error),
        }
    }
}

/// The MSIs of one SMMU. An interrupt without an MSI is a wired one, if the SMMU has its wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Msis {
    /// A global error became active.
    pub gerror: Option<Msi>,
    /// The event queue became non-empty.
    pub events: Option<Msi>,
    /// The PRI queue became non-empty. No effect while the PRI queue is off.
    pub page_requests: Option<Msi>,
}

/// [`Msis`] that an SMMU can send.
///
/// The bring-up reads each address back. So an SMMU with fewer abilities than `caps` told is
/// [`NotKept`](crate::BringupError::NotKept).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedMsis {
    pub(crate) values: [MsiValues; 3],
}

/// Why an SMMU cannot send MSIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsiError {
    /// The SMMU has no MSIs.
    #[error("the SMMU sends no MSIs (IDR0.MSI = 0); use its wired interrupts, or poll")]
    NoMsis,
    /// The SMMU has no PRI queue.
    #[error("the SMMU has no PRI queue (IDR0.PRI = 0); leave out the MSI of page requests")]
    NoPageRequests,
    /// The SMMU cannot output this address.
    #[error(
        "{register}: the SMMU outputs {bits} address bits (IDR5.OAS), too few for an MSI to {address}"
    )]
    BeyondOutputSize {
        /// The register.
        register: &'static str,
        /// The address.
        address: PhysAddr,
        /// Size of the SMMU's output addresses.
        bits: u32,
    },
}

/// The interrupts of an SMMU that sleeps: which are on, and the address, data and attributes of their
/// MSIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedInterrupts {
    pub(crate) irq_ctrl: u32,
    pub(crate) values: [MsiValues; 3],
}

impl SavedInterrupts {
    /// Reads them. Without MSIs the registers read as zero.
    pub(crate) fn read<R: Registers>(registers: &R) -> Self {
        SavedInterrupts {
            irq_ctrl: registers.read(regs::IRQ_CTRL),
            values: MSI_REGISTERS.map(|(address, data, attributes)| {
                (registers.read(address), registers.read(data), registers.read(attributes))
            }),
        }
    }
}
