//! The places of the registers of optional pages. They lie above [`WINDOW`](super::WINDOW), so a
//! driver must map these pages before it uses them.

/// The page of virtual ATOS (6.2.3). It exists if `IDR0.VATOS` is set.
pub mod vatos {
    use crate::fields::idr2::{BA_VATOS, Idr2};
    use crate::regs::{Reg, Ro, Rw};

    /// Bytes from the base of page 0 to this page, from the value of `IDR2`.
    #[must_use]
    pub const fn page(idr2: u32) -> u32 {
        0x2_0000 + 0x1_0000 * Idr2::from_bits(idr2).get(BA_VATOS) as u32
    }

    /// `VATOS_CTRL`: start.
    #[must_use]
    pub const fn ctrl(idr2: u32) -> Reg<u32, Rw> {
        Reg::new(page(idr2) + 0xa00, "VATOS_CTRL")
    }

    /// `VATOS_SID`: the stream.
    #[must_use]
    pub const fn sid(idr2: u32) -> Reg<u64, Rw> {
        Reg::new(page(idr2) + 0xa08, "VATOS_SID")
    }

    /// `VATOS_ADDR`: the address and the kind of access.
    #[must_use]
    pub const fn addr(idr2: u32) -> Reg<u64, Rw> {
        Reg::new(page(idr2) + 0xa10, "VATOS_ADDR")
    }

    /// `VATOS_PAR`: the result.
    #[must_use]
    pub const fn par(idr2: u32) -> Reg<u64, Ro> {
        Reg::new(page(idr2) + 0xa18, "VATOS_PAR")
    }
}

/// Enhanced command queues (6.2.5). They exist if `IDR1.ECMDQ` is set.
pub mod ecmdq {
    use crate::fields::{cmdq_control_page_base, idr6};
    use crate::regs::{Reg, Rw};

    /// One queue's registers.
    #[derive(Clone, Copy, Debug)]
    pub struct Interface {
        /// `ECMDQ_BASE`: base and size.
        pub base: Reg<u64, Rw>,
        /// `ECMDQ_PROD`: producer, enable and acknowledged error.
        pub producer: Reg<u32, Rw>,
        /// `ECMDQ_CONS`: consumer, enable acknowledge and error.
        pub consumer: Reg<u32, Rw>,
    }

    /// The registers of queue `queue` of a control page, from the values of `IDR6` and of the
    /// page's `CMDQ_CONTROL_PAGE_BASE`.
    ///
    /// `None` if the page has no such queue, or lies further from page 0 than an offset can reach.
    #[must_use]
    pub const fn interface(idr6: u32, control_page_base: u64, queue: u8) -> Option<Interface> {
        let log2 = idr6::Idr6::from_bits(idr6).get(idr6::CMDQ_CONTROL_PAGE_LOG2NUMQ);
        if log2 > 8 || queue as u64 >= 1 << log2 {
            return None;
        }
        let page = cmdq_control_page_base::CmdqControlPageBase::from_bits(control_page_base)
            .get(cmdq_control_page_base::ADDR);
        if page > 0xffff_0000 {
            return None;
        }
        let at = page as u32 + (0x1_0000 >> log2) * queue as u32;
        Some(Interface {
            base: Reg::new(at, "ECMDQ_BASE"),
            producer: Reg::new(at + 0x8, "ECMDQ_PROD"),
            consumer: Reg::new(at + 0xc, "ECMDQ_CONS"),
        })
    }
}
