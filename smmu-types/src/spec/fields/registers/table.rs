//! The registers as a list.

use super::*;
use crate::layout::Layout;
use crate::regs::{self, AccessRights, Reg, Rights, Rw, Width};

/// One register: name, place, size, rights and fields.
#[derive(Clone, Copy, Debug)]
pub struct RegisterInfo {
    /// The architecture's name, without the `SMMU_` prefix and without the index of an array.
    pub name: &'static str,
    /// Bytes from the base of its page. For pages 0 and 1, bytes from the base of page 0.
    pub offset: u32,
    /// Its size: 32 or 64.
    pub bits: u16,
    /// Access rights.
    pub access: AccessRights,
    /// Its fields. With a value, use [`layout_of`](Self::layout_of).
    pub layout: &'static Layout,
    /// The number of such registers in a row. It is 1, except for registers of command queue
    /// control pages and their queues.
    pub count: u16,
    /// Bytes from each to the next; 0 for a single register.
    pub stride: u32,
    fault: Option<&'static Layout>,
}

impl RegisterInfo {
    /// The fields of the register when it reads as `value`. The result of a failed translation
    /// operation has other fields.
    #[must_use]
    pub const fn layout_of(&self, value: u64) -> &'static Layout {
        match self.fault {
            Some(fault) if value & 1 != 0 => fault,
            _ => self.layout,
        }
    }

    const fn failing(mut self, fault: &'static Layout) -> Self {
        self.fault = Some(fault);
        self
    }

    const fn within(mut self, page: u32) -> Self {
        self.offset -= page;
        self
    }

    const fn repeated(mut self, count: u16, stride: u32) -> Self {
        self.count = count;
        self.stride = stride;
        self
    }

    /// The index of the register at `offset`.
    const fn index_at(&self, offset: u32) -> Option<u32> {
        if offset < self.offset {
            return None;
        }
        let past = offset - self.offset;
        if past == 0 {
            return Some(0);
        }
        if self.stride == 0 || !past.is_multiple_of(self.stride) {
            return None;
        }
        let index = past / self.stride;
        if index < self.count as u32 { Some(index) } else { None }
    }
}

const fn info<W: Width, A: Rights>(register: Reg<W, A>, layout: &'static Layout) -> RegisterInfo {
    RegisterInfo {
        name: register.name(),
        offset: register.offset(),
        bits: W::BITS,
        access: A::ACCESS,
        layout,
        count: 1,
        stride: 0,
        fault: None,
    }
}

const fn paged(info: RegisterInfo) -> RegisterInfo {
    info.repeated(regs::CMDQ_CONTROL_PAGES, regs::CMDQ_CONTROL_PAGE_STRIDE)
}

/// The registers of pages 0 and 1, in the order of their offsets.
pub static REGISTERS: &[RegisterInfo] = &[
    info(regs::IDR0, &idr0::LAYOUT),
    info(regs::IDR1, &idr1::LAYOUT),
    info(regs::IDR2, &idr2::LAYOUT),
    info(regs::IDR3, &idr3::LAYOUT),
    info(regs::IDR4, &idr4::LAYOUT),
    info(regs::IDR5, &idr5::LAYOUT),
    info(regs::IIDR, &iidr::LAYOUT),
    info(regs::AIDR, &aidr::LAYOUT),
    info(regs::CR0, &cr0::LAYOUT),
    info(regs::CR0ACK, &cr0ack::LAYOUT),
    info(regs::CR1, &cr1::LAYOUT),
    info(regs::CR2, &cr2::LAYOUT),
    info(regs::S2PII, &s2pii::LAYOUT),
    info(regs::STATUSR, &statusr::LAYOUT),
    info(regs::GBPA, &gbpa::LAYOUT),
    info(regs::AGBPA, &agbpa::LAYOUT),
    info(regs::IRQ_CTRL, &irq_ctrl::LAYOUT),
    info(regs::IRQ_CTRLACK, &irq_ctrlack::LAYOUT),
    info(regs::GERROR, &gerror::LAYOUT),
    info(regs::GERRORN, &gerrorn::LAYOUT),
    info(regs::GERROR_IRQ_CFG0, &gerror_irq_cfg0::LAYOUT),
    info(regs::GERROR_IRQ_CFG1, &gerror_irq_cfg1::LAYOUT),
    info(regs::GERROR_IRQ_CFG2, &gerror_irq_cfg2::LAYOUT),
    info(regs::STRTAB_BASE, &strtab_base::LAYOUT),
    info(regs::STRTAB_BASE_CFG, &strtab_base_cfg::LAYOUT),
    info(regs::CMDQ_BASE, &cmdq_base::LAYOUT),
    info(regs::CMDQ_PROD, &cmdq_prod::LAYOUT),
    info(regs::CMDQ_CONS, &cmdq_cons::LAYOUT),
    info(regs::EVENTQ_BASE, &eventq_base::LAYOUT),
    info(regs::EVENTQ_IRQ_CFG0, &eventq_irq_cfg0::LAYOUT),
    info(regs::EVENTQ_IRQ_CFG1, &eventq_irq_cfg1::LAYOUT),
    info(regs::EVENTQ_IRQ_CFG2, &eventq_irq_cfg2::LAYOUT),
    info(regs::PRIQ_BASE, &priq_base::LAYOUT),
    info(regs::PRIQ_IRQ_CFG0, &priq_irq_cfg0::LAYOUT),
    info(regs::PRIQ_IRQ_CFG1, &priq_irq_cfg1::LAYOUT),
    info(regs::PRIQ_IRQ_CFG2, &priq_irq_cfg2::LAYOUT),
    info(regs::GATOS_CTRL, &gatos_ctrl::LAYOUT),
    info(regs::GATOS_SID, &gatos_sid::LAYOUT),
    info(regs::GATOS_ADDR, &gatos_addr::LAYOUT),
    info(regs::GATOS_PAR, &gatos_par::LAYOUT).failing(&gatos_par_fault::LAYOUT),
    info(regs::MPAMIDR, &mpamidr::LAYOUT),
    info(regs::GMPAM, &gmpam::LAYOUT),
    info(regs::GBPMPAM, &gbpmpam::LAYOUT),
    info(regs::VATOS_SEL, &vatos_sel::LAYOUT),
    info(regs::IDR6, &idr6::LAYOUT),
    info(regs::DPT_BASE, &dpt_base::LAYOUT),
    info(regs::DPT_BASE_CFG, &dpt_base_cfg::LAYOUT),
    info(regs::DPT_CFG_FAR, &dpt_cfg_far::LAYOUT),
    info(regs::PIDR4, &pidr4::LAYOUT),
    info(regs::PIDR5, &pidr5::LAYOUT),
    info(regs::PIDR6, &pidr6::LAYOUT),
    info(regs::PIDR7, &pidr7::LAYOUT),
    info(regs::PIDR0, &pidr0::LAYOUT),
    info(regs::PIDR1, &pidr1::LAYOUT),
    info(regs::PIDR2, &pidr2::LAYOUT),
    info(regs::PIDR3, &pidr3::LAYOUT),
    info(regs::CIDR0, &cidr0::LAYOUT),
    info(regs::CIDR1, &cidr1::LAYOUT),
    info(regs::CIDR2, &cidr2::LAYOUT),
    info(regs::CIDR3, &cidr3::LAYOUT),
    paged(info(regs::cmdq_control_page_base(0), &cmdq_control_page_base::LAYOUT)),
    paged(info(regs::cmdq_control_page_cfg(0), &cmdq_control_page_cfg::LAYOUT)),
    paged(info(regs::cmdq_control_page_status(0), &cmdq_control_page_status::LAYOUT)),
    info(regs::EVENTQ_PROD, &eventq_prod::LAYOUT),
    info(regs::EVENTQ_CONS, &eventq_cons::LAYOUT),
    info(regs::PRIQ_PROD, &priq_prod::LAYOUT),
    info(regs::PRIQ_CONS, &priq_cons::LAYOUT),
];

/// The registers of the virtual ATOS page, with offsets within that page. [`regs::vatos`] gives its
/// place.
pub static VATOS_REGISTERS: &[RegisterInfo] = &[
    info(regs::vatos::ctrl(0), &vatos_ctrl::LAYOUT).within(regs::vatos::page(0)),
    info(regs::vatos::sid(0), &vatos_sid::LAYOUT).within(regs::vatos::page(0)),
    info(regs::vatos::addr(0), &vatos_addr::LAYOUT).within(regs::vatos::page(0)),
    info(regs::vatos::par(0), &vatos_par::LAYOUT)
        .failing(&vatos_par_fault::LAYOUT)
        .within(regs::vatos::page(0)),
];

/// The registers of one enhanced command queue, with offsets from the first of them.
/// [`regs::ecmdq`] gives their places.
pub static ECMDQ_REGISTERS: &[RegisterInfo] = &[
    info(Reg::<u64, Rw>::new(0x0, "ECMDQ_BASE"), &ecmdq_base::LAYOUT),
    info(Reg::<u32, Rw>::new(0x8, "ECMDQ_PROD"), &ecmdq_prod::LAYOUT),
    info(Reg::<u32, Rw>::new(0xc, "ECMDQ_CONS"), &ecmdq_cons::LAYOUT),
];

/// Every table of registers, of all pages, for [`all`](super::all).
pub(in crate::spec::fields) fn layouts() -> impl Iterator<Item = &'static Layout> {
    [REGISTERS, VATOS_REGISTERS, ECMDQ_REGISTERS]
        .into_iter()
        .flatten()
        .flat_map(|info| [Some(info.layout), info.fault].into_iter().flatten())
}

/// The fields of the register at `offset` from the base of page 0. Halves of a 64-bit register have
/// no fields of their own.
#[must_use]
pub fn register(offset: u32) -> Option<&'static Layout> {
    REGISTERS.iter().find(|info| info.index_at(offset).is_some()).map(|info| info.layout)
}

/// A register of page 0 or 1 by its name: its offset from the base of page 0, and its fields.
///
/// Case, underscores and a prefix `SMMU_` or `ARM_SMMU_` do not matter. `EVTQ` means `EVENTQ`, as
/// in Linux. A row of registers takes an index: `CMDQ_CONTROL_PAGE_BASE3`.
///
/// ```
/// use smmu_types::fields;
///
/// for name in ["CR0ACK", "smmu_cr0ack", "CR0_ACK"] {
///     let (offset, layout) = fields::register_by_name(name).unwrap();
///     assert_eq!((offset, layout.name()), (0x24, "CR0ACK"));
/// }
/// assert_eq!(fields::register_by_name("EVTQ_BASE").unwrap().0, 0xa0);
/// ```
#[must_use]
pub fn register_by_name(name: &str) -> Option<(u32, &'static Layout)> {
    let (info, index) = search(REGISTERS, name)?;
    Some((info.offset + info.stride * index, info.layout))
}

/// As [`register_by_name`], for the registers of every page. The offset is
/// [`RegisterInfo::offset`].
#[must_use]
pub fn register_info(name: &str) -> Option<&'static RegisterInfo> {
    [REGISTERS, VATOS_REGISTERS, ECMDQ_REGISTERS]
        .into_iter()
        .find_map(|table| search(table, name))
        .map(|(info, _)| info)
}

fn search(table: &'static [RegisterInfo], name: &str) -> Option<(&'static RegisterInfo, u32)> {
    if let Some(info) = table.iter().find(|info| same(info.name, name)) {
        return Some((info, 0));
    }
    let row = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let index = name.strip_prefix(row)?.parse::<u32>().ok()?;
    let info = table.iter().find(|info| info.count > 1 && same(info.name, row))?;
    (index < u32::from(info.count)).then_some((info, index))
}

/// Whether `given` names the register `name`.
fn same(name: &str, given: &str) -> bool {
    letters("", name).eq(spelled(given))
}

/// The letters of a name in the architecture's spelling.
fn spelled(given: &str) -> impl Iterator<Item = u8> {
    let given = without(given, "ARM_").unwrap_or(given);
    let given = without(given, "SMMU_").unwrap_or(given);
    match without(given, "EVTQ") {
        Some(rest) => letters("EVENTQ", rest),
        None => letters("", given),
    }
}

fn letters<'a>(first: &'a str, rest: &'a str) -> impl Iterator<Item = u8> + use<'a> {
    first
        .bytes()
        .chain(rest.bytes())
        .filter(|byte| *byte != b'_')
        .map(|byte| byte.to_ascii_uppercase())
}

fn without<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("IDR0", 0x00, "IDR0")]
    #[case("SMMU_IDR0", 0x00, "IDR0")]
    #[case("arm_smmu_idr6", 0x190, "IDR6")]
    #[case("ARM_SMMU_EVTQ_IRQ_CFG0", 0xb0, "EVENTQ_IRQ_CFG0")]
    #[case("evtq_prod", 0x1_00a8, "EVENTQ_PROD")]
    #[case("SMMU_IRQ_CTRL_ACK", 0x54, "IRQ_CTRLACK")]
    #[case("CMDQ_CONTROL_PAGE_BASE", 0x4000, "CMDQ_CONTROL_PAGE_BASE")]
    #[case("CMDQ_CONTROL_PAGE_STATUS255", 0x5fec, "CMDQ_CONTROL_PAGE_STATUS")]
    fn names(#[case] name: &str, #[case] offset: u32, #[case] canonical: &str) {
        let (at, layout) = register_by_name(name).unwrap();
        assert_eq!((at, layout.name()), (offset, canonical));
        assert_eq!(register(offset).unwrap().name(), canonical);
    }

    #[rstest]
    #[case("")]
    #[case("IDR")]
    #[case("IDR00")]
    #[case("IDR7")]
    #[case("SMMU_")]
    #[case("CMDQ_CONTROL_PAGE_BASE256")]
    #[case("CMDQ_CONTROL_PAGE_BASE99999999999")]
    #[case("ECMDQ_PROD")]
    #[case("\u{e9}vtq")]
    fn no_names(#[case] name: &str) {
        assert!(register_by_name(name).is_none());
    }

    #[test]
    fn registers_of_other_pages_have_names_too() {
        assert_eq!(register_info("SMMU_ECMDQ_PROD").unwrap().offset, 8);
        assert_eq!(register_info("vatos_par").unwrap().offset, 0xa18);
        assert_eq!(register_info("STRTAB_BASE").unwrap().offset, 0x80);
    }

    #[test]
    fn offsets_are_where_registers_begin() {
        for info in REGISTERS {
            assert_eq!(register(info.offset).map(Layout::name), Some(info.name));
            if info.bits == 64 {
                assert!(register(info.offset + 4).is_none(), "{}", info.name);
            }
        }
        assert!(register(0x34).is_none() && register(u32::MAX).is_none());
        assert!(REGISTERS.is_sorted_by_key(|info| info.offset));
    }

    #[test]
    fn a_failed_operation_has_other_fields() {
        let par = register_info("GATOS_PAR").unwrap();
        assert!(par.layout_of(0).field("ATTR").is_some());
        assert!(par.layout_of(1).field("FAULTCODE").is_some());
        assert_eq!(par.layout_of(1).name(), "GATOS_PAR");
    }
}
