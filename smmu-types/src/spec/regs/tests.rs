//! Tests of the register map.

extern crate std;

use super::*;
use crate::fields;
use crate::queue::QueueSize;
use crate::{FieldError, PhysAddr, StreamId};
use rstest::rstest;

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
    assert_eq!(strtab::StreamTableFormat::Linear { log2: 8 }.config(), Ok(8));
    assert_eq!(
        strtab::StreamTableFormat::TwoLevel { log2: 16, split: strtab::Split::Eight }.config(),
        Ok(16 | 8 << 6 | 1 << 16)
    );
    assert_eq!(strtab::l1_descriptor(PhysAddr(0x4004_0000), strtab::Split::Eight), Ok(0x4004_0009));
    let size = QueueSize::from_log2(6).unwrap();
    assert_eq!(queue_base::encode(PhysAddr(0x4001_0000), size, 16), Ok(1 << 62 | 0x4001_0006));
}

#[test]
fn a_misaligned_base_is_refused_not_cut() {
    let size = QueueSize::from_log2(8).unwrap();
    assert!(queue_base::encode(PhysAddr(0x4000_0800), size, 16).is_err());
    assert!(
        strtab::base(PhysAddr(0x4000_0040), strtab::StreamTableFormat::Linear { log2: 4 }).is_err()
    );
    for (split, at, size) in [
        (strtab::Split::Six, 0x4000_1000, 7),
        (strtab::Split::Eight, 0x4000_4000, 9),
        (strtab::Split::Ten, 0x4001_0000, 11),
    ] {
        assert_eq!(strtab::l1_descriptor(PhysAddr(at), split), Ok(at | size));
        assert!(strtab::l1_descriptor(PhysAddr(at + (at & 0xf_ffff) / 2), split).is_err());
    }
}

#[test]
fn a_stream_table_of_an_impossible_size_says_which_way() {
    use strtab::Split;
    use strtab::StreamTableFormat::{self, Linear};
    let field = "LOG2SIZE";
    let two_level = |log2| StreamTableFormat::TwoLevel { log2, split: Split::Eight };
    for log2 in [33, 64, 255] {
        let error = FieldError::TooLarge { field, value: log2.into(), max: 32 };
        for format in [Linear { log2 }, two_level(log2)] {
            assert_eq!(format.config(), Err(error));
            assert_eq!(strtab::base(PhysAddr(0), format), Err(error));
        }
    }
    assert_eq!(two_level(8).bytes(), Ok(8));
    assert_eq!(two_level(32).bytes(), Ok(8 << 24));
    for (split, bits) in [(Split::Six, 6), (Split::Ten, 10)] {
        let of = |log2| StreamTableFormat::TwoLevel { log2, split };
        assert_eq!(of(bits).bytes(), Ok(8));
        assert_eq!(of(32).bytes(), Ok(8 << (32 - bits)));
        // 6.3.25: MAX(1, 2^(LOG2SIZE - SPLIT)) descriptors.
        assert_eq!((of(bits - 1).bytes(), of(0).bytes()), (Ok(8), Ok(8)));
        let config = 1 << 16 | u32::from(bits) << 6 | u32::from(bits - 1);
        assert_eq!(of(bits - 1).config(), Ok(config));
        assert_eq!(strtab::DecodedConfig::decode(config).format(), Some(of(bits - 1)));
        assert!(strtab::base(PhysAddr(0x4000_0040), of(0)).is_ok());
        assert!(strtab::base(PhysAddr(0x4000_0008), of(0)).is_err());
    }
    let reserved = StreamTableFormat::TwoLevel { log2: 16, split: Split::Reserved(7) };
    assert_eq!(reserved.config(), Err(FieldError::Reserved { field: "SPLIT", value: 7 }));
}

#[test]
fn a_stream_has_one_place_in_a_table() {
    use strtab::{Split, StreamTableFormat};
    let stream = StreamId(0x1_2345);
    assert_eq!(StreamTableFormat::Linear { log2: 17 }.place(stream), (0, 0x1_2345));
    for (split, place) in [
        (Split::Six, (0x1_2345 >> 6, 0x05)),
        (Split::Eight, (0x123, 0x45)),
        (Split::Ten, (0x48, 0x345)),
    ] {
        let format = StreamTableFormat::TwoLevel { log2: 17, split };
        assert_eq!((format.place(stream), format.split()), (place, Some(split)));
    }
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
fn masks_are_what_drivers_write() {
    let narrow = [
        (cr0::SMMUEN, 1 << 0),
        (cr0::PRIQEN, 1 << 1),
        (cr0::EVENTQEN, 1 << 2),
        (cr0::CMDQEN, 1 << 3),
        (cr0::ATSCHK, 1 << 4),
        (cr0::VMW, 7 << 6),
        (cr0::DPT_WALK_EN, 1 << 10),
        (cr1::QUEUE_IC, 3),
        (cr1::QUEUE_OC, 3 << 2),
        (cr1::QUEUE_SH, 3 << 4),
        (cr1::TABLE_IC, 3 << 6),
        (cr1::TABLE_OC, 3 << 8),
        (cr1::TABLE_SH, 3 << 10),
        (cr2::E2H, 1 << 0),
        (cr2::RECINVSID, 1 << 1),
        (cr2::PTM, 1 << 2),
        (cr2::REC_CFG_ATS, 1 << 3),
        (statusr::DORMANT, 1 << 0),
        (gbpa::MEMATTR, 0xf),
        (gbpa::MTCFG, 1 << 4),
        (gbpa::ALLOCCFG, 0xf << 8),
        (gbpa::SHCFG, 3 << 12),
        (gbpa::PRIVCFG, 3 << 16),
        (gbpa::INSTCFG, 3 << 18),
        (gbpa::ABORT, 1 << 20),
        (gbpa::UPDATE, 1 << 31),
        (irq_ctrl::GERROR, 1 << 0),
        (irq_ctrl::PRIQ, 1 << 1),
        (irq_ctrl::EVENTQ, 1 << 2),
        (gerror::CMDQ, 1 << 0),
        (gerror::EVENTQ_ABT, 1 << 2),
        (gerror::PRIQ_ABT, 1 << 3),
        (gerror::MSI_CMDQ_ABT, 1 << 4),
        (gerror::MSI_EVENTQ_ABT, 1 << 5),
        (gerror::MSI_PRIQ_ABT, 1 << 6),
        (gerror::MSI_GERROR_ABT, 1 << 7),
        (gerror::SFM, 1 << 8),
        (gerror::CMDQP, 1 << 9),
        (gerror::DPT, 1 << 10),
        (irq_cfg2::MEMATTR, 0xf),
        (irq_cfg2::SH, 3 << 4),
        (priq_irq_cfg2::LO, 1 << 31),
        (cmdq_cons::ERR, 0x7f << 24),
        (queue_pointer::POINTER, 0xf_ffff),
        (queue_pointer::OVERFLOW, 1 << 31),
        (gatos_ctrl::RUN, 1 << 0),
        (gmpam::SO_PARTID, 0xffff),
        (gmpam::SO_PMG, 0xff << 16),
        (gmpam::UPDATE, 1 << 31),
        (gbpmpam::GBP_PARTID, 0xffff),
        (gbpmpam::GBP_PMG, 0xff << 16),
        (gbpmpam::UPDATE, 1 << 31),
    ];
    let wide = [
        (queue_base::ALLOCATE, 1 << 62),
        (strtab::READ_ALLOCATE, 1 << 62),
        (dpt_cfg_far::FAULT, 1 << 0),
        (dpt_cfg_far::LEVEL, 1 << 1),
        (dpt_cfg_far::DPT_FAULTCODE, 0xf << 4),
    ];
    for (n, (mask, bits)) in narrow.into_iter().enumerate() {
        assert_eq!(mask, bits, "{n}");
    }
    for (n, (mask, bits)) in wide.into_iter().enumerate() {
        assert_eq!(mask, bits, "{n}");
    }
    assert_eq!((cr1::COHERENT, cr1::NON_COHERENT), (0xd75, 0x820));
    assert_eq!((gerror::ALL, gerror::DEFINED), (0x1fd, 0x7fd));
}

#[cfg(feature = "fields")]
#[test]
fn masks_cover_the_fields_of_the_tables() {
    use fields as f;
    let all = |layout: &crate::layout::Layout| {
        layout.fields().iter().fold(0, |bits, field| bits | field.mask())
    };
    assert_eq!(u64::from(gerror::DEFINED), all(&f::gerror::LAYOUT));
    // One constant serves several registers.
    assert_eq!(u64::from(queue_pointer::POINTER), f::cmdq_prod::WR.mask());
    assert_eq!(u64::from(queue_pointer::POINTER), f::priq_cons::RD.mask());
    assert_eq!(u64::from(queue_pointer::OVERFLOW), f::eventq_prod::OVFLG.mask());
    assert_eq!(u64::from(queue_pointer::OVERFLOW), f::priq_cons::OVACKFLG.mask());
    assert_eq!(u64::from(irq_cfg2::SH), f::eventq_irq_cfg2::SH.mask());
    assert_eq!(queue_base::ALLOCATE, f::eventq_base::WA.mask());
    assert_eq!(queue_base::ALLOCATE, f::priq_base::WA.mask());
    assert_eq!(all(&f::gerrorn::LAYOUT), all(&f::gerror::LAYOUT));
    assert_eq!(all(&f::cr0ack::LAYOUT), all(&f::cr0::LAYOUT));
    assert_eq!(all(&f::irq_ctrlack::LAYOUT), all(&f::irq_ctrl::LAYOUT));
}
