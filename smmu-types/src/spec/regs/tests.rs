extern crate std;

use super::*;
use crate::fields;
use crate::queue::QueueSize;
use crate::{FieldError, PhysAddr};
use rstest::rstest;
use std::string::ToString;

#[rstest]
#[case(0xa8, EVENTQ_PROD.name())]
#[case(0xac, EVENTQ_CONS.name())]
#[case(0xc8, PRIQ_PROD.name())]
#[case(0xcc, PRIQ_CONS.name())]
fn aliases_have_the_name_of_their_register(#[case] offset: u32, #[case] name: &str) {
    assert_eq!((name_of(offset), name_of(offset + 0x1_0000)), (Some(name), Some(name)));
}

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
    assert_eq!(strtab::Format::Linear { log2: 8 }.config(), Ok(8));
    assert_eq!(strtab::Format::TwoLevel { log2: 16 }.config(), Ok(16 | 8 << 6 | 1 << 16));
    assert_eq!(strtab::l1_descriptor(PhysAddr(0x4004_0000)), Ok(0x4004_0009));
    let size = QueueSize::from_log2(6).unwrap();
    assert_eq!(queue_base::encode(PhysAddr(0x4001_0000), size, 16), Ok(1 << 62 | 0x4001_0006));
}

#[test]
fn a_misaligned_base_is_refused_not_cut() {
    let size = QueueSize::from_log2(8).unwrap();
    assert!(queue_base::encode(PhysAddr(0x4000_0800), size, 16).is_err());
    assert!(strtab::base(PhysAddr(0x4000_0040), strtab::Format::Linear { log2: 4 }).is_err());
    assert!(strtab::l1_descriptor(PhysAddr(0x4000_1000)).is_err());
}

#[test]
fn a_stream_table_of_an_impossible_size_says_which_way() {
    use strtab::Format::{Linear, TwoLevel};
    let field = "LOG2SIZE";
    for log2 in [33, 64, 255] {
        let error = FieldError::TooLarge { field, value: log2.into(), max: 32 };
        for format in [Linear { log2 }, TwoLevel { log2 }] {
            assert_eq!(format.config(), Err(error));
            assert_eq!(strtab::base(PhysAddr(0), format), Err(error));
        }
    }
    let error = FieldError::TooSmall { field, value: 5, min: 8 };
    assert_eq!(TwoLevel { log2: 5 }.config(), Err(error));
    assert_eq!(strtab::base(PhysAddr(0), TwoLevel { log2: 5 }), Err(error));
    assert_eq!(error.to_string(), "LOG2SIZE = 0x5 is too small here; the smallest value is 0x8");
    assert_eq!(TwoLevel { log2: 8 }.bytes(), Ok(8));
    assert_eq!(TwoLevel { log2: 32 }.bytes(), Ok(8 << 24));
}

#[test]
fn constants_and_tables_are_the_same_registers() {
    let mut registers = fields::REGISTERS.iter();
    for &(name, offset, bits, access) in ALL {
        let Some(info) = registers.find(|info| info.name == name) else {
            panic!("{name} is not in the table, or not in its place");
        };
        assert_eq!((info.offset, info.bits, info.access), (offset, bits, access), "{name}");
        assert_eq!((info.layout.name(), info.layout.bits()), (name, bits));
        assert_eq!(name_of(offset), Some(name));
    }
    let pages = fields::REGISTERS.iter().filter(|info| info.count > 1);
    assert_eq!(ALL.len() + pages.count(), fields::REGISTERS.len());
    for n in [0, 1, 255] {
        for (offset, name) in [
            (cmdq_control_page_base(n).offset(), cmdq_control_page_base(n).name()),
            (cmdq_control_page_cfg(n).offset(), cmdq_control_page_cfg(n).name()),
            (cmdq_control_page_status(n).offset(), cmdq_control_page_status(n).name()),
        ] {
            assert_eq!(name_of(offset), Some(name));
            assert_eq!(fields::register(offset).unwrap().name(), name);
        }
    }
    assert_eq!(name_of(0x4010), None);
    assert_eq!(name_of(0x6000), None);
}

#[test]
fn holes_have_no_registers() {
    for offset in (0..WINDOW).step_by(4) {
        if is_implementation_defined(offset) || is_secure(offset) {
            assert_eq!(name_of(offset), None, "{offset:#x}");
        }
    }
    assert!(is_implementation_defined(0xe10) && !is_implementation_defined(0xfd0));
    assert!(is_secure(0x8000) && !is_secure(0x1_00a8));
}

#[test]
fn optional_pages_are_found() {
    assert_eq!(vatos::ctrl(0).offset(), 0x2_0a00);
    assert_eq!(vatos::par(3).offset(), 0x5_0a18);
    assert_eq!(vatos::addr(0xffff_ffff).offset(), 0x401_0a10);
    // 2^7 queues lie 512 bytes apart, as Marvell's Odyssey places them.
    let idr6 = 7 << 16;
    let third = ecmdq::interface(idr6, 0x18_0003, 3).unwrap();
    assert_eq!(third.base.offset(), 0x18_0600);
    assert_eq!(third.producer.offset(), 0x18_0608);
    assert_eq!(third.consumer.offset(), 0x18_060c);
    assert!(ecmdq::interface(idr6, 0x18_0003, 128).is_none());
    assert!(ecmdq::interface(9 << 16, 0x18_0003, 0).is_none());
    assert!(ecmdq::interface(idr6, 1 << 40, 0).is_none());
    assert!(ecmdq::interface(8 << 16, 0xffff_0003, 255).is_some());
}

#[test]
fn masks_are_the_fields_of_the_tables() {
    use fields as f;
    let narrow = [
        (cr0::SMMUEN, f::cr0::SMMUEN.field()),
        (cr0::PRIQEN, f::cr0::PRIQEN.field()),
        (cr0::EVENTQEN, f::cr0::EVENTQEN.field()),
        (cr0::CMDQEN, f::cr0::CMDQEN.field()),
        (cr0::ATSCHK, f::cr0::ATSCHK.field()),
        (cr0::VMW, f::cr0::VMW.field()),
        (cr0::DPT_WALK_EN, f::cr0::DPT_WALK_EN.field()),
        (cr1::QUEUE_IC, f::cr1::QUEUE_IC.field()),
        (cr1::QUEUE_OC, f::cr1::QUEUE_OC.field()),
        (cr1::QUEUE_SH, f::cr1::QUEUE_SH.field()),
        (cr1::TABLE_IC, f::cr1::TABLE_IC.field()),
        (cr1::TABLE_OC, f::cr1::TABLE_OC.field()),
        (cr1::TABLE_SH, f::cr1::TABLE_SH.field()),
        (cr2::E2H, f::cr2::E2H.field()),
        (cr2::RECINVSID, f::cr2::RECINVSID.field()),
        (cr2::PTM, f::cr2::PTM.field()),
        (cr2::REC_CFG_ATS, f::cr2::REC_CFG_ATS.field()),
        (statusr::DORMANT, f::statusr::DORMANT.field()),
        (gbpa::MEMATTR, f::gbpa::MEMATTR.field()),
        (gbpa::MTCFG, f::gbpa::MTCFG.field()),
        (gbpa::ALLOCCFG, f::gbpa::ALLOCCFG.field()),
        (gbpa::SHCFG, f::gbpa::SHCFG.field()),
        (gbpa::PRIVCFG, f::gbpa::PRIVCFG.field()),
        (gbpa::INSTCFG, f::gbpa::INSTCFG.field()),
        (gbpa::ABORT, f::gbpa::ABORT.field()),
        (gbpa::UPDATE, f::gbpa::UPDATE.field()),
        (irq_ctrl::GERROR, f::irq_ctrl::GERROR_IRQEN.field()),
        (irq_ctrl::PRIQ, f::irq_ctrl::PRIQ_IRQEN.field()),
        (irq_ctrl::EVENTQ, f::irq_ctrl::EVENTQ_IRQEN.field()),
        (gerror::CMDQ, f::gerror::CMDQ_ERR.field()),
        (gerror::EVENTQ_ABT, f::gerror::EVENTQ_ABT_ERR.field()),
        (gerror::PRIQ_ABT, f::gerror::PRIQ_ABT_ERR.field()),
        (gerror::MSI_CMDQ_ABT, f::gerror::MSI_CMDQ_ABT_ERR.field()),
        (gerror::MSI_EVENTQ_ABT, f::gerror::MSI_EVENTQ_ABT_ERR.field()),
        (gerror::MSI_PRIQ_ABT, f::gerror::MSI_PRIQ_ABT_ERR.field()),
        (gerror::MSI_GERROR_ABT, f::gerror::MSI_GERROR_ABT_ERR.field()),
        (gerror::SFM, f::gerror::SFM_ERR.field()),
        (gerror::CMDQP, f::gerror::CMDQP_ERR.field()),
        (gerror::DPT, f::gerror::DPT_ERR.field()),
        (irq_cfg2::MEMATTR, f::gerror_irq_cfg2::MEMATTR.field()),
        (irq_cfg2::SH, f::eventq_irq_cfg2::SH.field()),
        (priq_irq_cfg2::LO, f::priq_irq_cfg2::LO.field()),
        (cmdq_cons::ERR, f::cmdq_cons::ERR.field()),
        (queue_pointer::POINTER, f::cmdq_prod::WR.field()),
        (queue_pointer::POINTER, f::priq_cons::RD.field()),
        (queue_pointer::OVERFLOW, f::eventq_prod::OVFLG.field()),
        (queue_pointer::OVERFLOW, f::priq_cons::OVACKFLG.field()),
        (gatos_ctrl::RUN, f::gatos_ctrl::RUN.field()),
        (gmpam::SO_PARTID, f::gmpam::SO_PARTID.field()),
        (gmpam::SO_PMG, f::gmpam::SO_PMG.field()),
        (gmpam::UPDATE, f::gmpam::UPDATE.field()),
        (gbpmpam::GBP_PARTID, f::gbpmpam::GBP_PARTID.field()),
        (gbpmpam::GBP_PMG, f::gbpmpam::GBP_PMG.field()),
        (gbpmpam::UPDATE, f::gbpmpam::UPDATE.field()),
    ];
    let wide = [
        (queue_base::ALLOCATE, f::cmdq_base::RA.field()),
        (queue_base::ALLOCATE, f::eventq_base::WA.field()),
        (queue_base::ALLOCATE, f::priq_base::WA.field()),
        (strtab::READ_ALLOCATE, f::strtab_base::RA.field()),
        (dpt_cfg_far::FAULT, f::dpt_cfg_far::FAULT.field()),
        (dpt_cfg_far::LEVEL, f::dpt_cfg_far::LEVEL.field()),
        (dpt_cfg_far::DPT_FAULTCODE, f::dpt_cfg_far::DPT_FAULTCODE.field()),
    ];
    for (mask, field) in
        narrow.map(|(mask, field)| (u64::from(mask), field)).into_iter().chain(wide)
    {
        assert_eq!(mask, field.mask(), "{}", field.name());
    }
    let all = |layout: &crate::layout::Layout| {
        layout.fields().iter().fold(0, |bits, field| bits | field.mask())
    };
    assert_eq!(u64::from(gerror::DEFINED), all(&f::gerror::LAYOUT));
    assert_eq!(all(&f::gerrorn::LAYOUT), all(&f::gerror::LAYOUT));
    assert_eq!(all(&f::cr0ack::LAYOUT), all(&f::cr0::LAYOUT));
    assert_eq!(all(&f::irq_ctrlack::LAYOUT), all(&f::irq_ctrl::LAYOUT));
}
