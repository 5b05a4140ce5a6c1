//! Structures in memory against other definitions: positions and values.
//!
//! Numbers are literal: `(name, lowest bit, width)`.

#[path = "common/outside.rs"]
mod outside;

use outside::Positions;
use rstest::rstest;
use smmu_types::fields::{cd, l1cd, l1std, ste, vms};
use smmu_types::layout::Layout;
use smmu_types::{
    Asid, AtsMode, Cacheability, Cd, ContextTableDescriptor, Granule, OutputSize, PhysAddr,
    Shareability, ShareabilityOverride, Stage1Config, Ste, StreamTableDescriptor, StreamWorld,
    SubstreamDefault, TableConfig,
};

/// Renode's SMMUv3 model (MIT).
#[rustfmt::skip]
const RENODE_STE: Positions = &[
    ("V", 0, 1), ("Config", 1, 3), ("S1Fmt", 4, 2), ("S1ContextPtr", 6, 50), ("S1CDMax", 59, 5),
    ("S1DSS", 64, 2), ("S1CIR", 66, 2), ("S1COR", 68, 2), ("S1CSH", 70, 2), ("S2HWU59", 72, 1),
    ("S2HWU60", 73, 1), ("S2HWU61", 74, 1), ("S2HWU62", 75, 1), ("DRE", 76, 1), ("CONT", 77, 4),
    ("DCP", 81, 1), ("PPAR", 82, 1), ("MEV", 83, 1), ("SW_RESERVED", 84, 4), ("S1PIE", 88, 1),
    ("S2FWB", 89, 1), ("S1MPAM", 90, 1), ("S1STALLD", 91, 1), ("EATS", 92, 2), ("STRW", 94, 2),
    ("MemAttr", 96, 4), ("MTCFG", 100, 1), ("ALLOCCFG", 101, 4), ("SHCFG", 108, 2), ("NSCFG", 110, 2),
    ("PRIVCFG", 112, 2), ("INSTCFG", 114, 2), ("S2VMID", 128, 16), ("S2T0SZ", 160, 6), ("S2SL0", 166, 2),
    ("S2IR0", 168, 2), ("S2OR0", 170, 2), ("S2SH0", 172, 2), ("S2TG", 174, 2), ("S2PS", 176, 3),
    ("S2AA64", 179, 1), ("S2ENDI", 180, 1), ("S2AFFD", 181, 1), ("S2PTW", 182, 1), ("S2HD", 183, 1),
    ("S2HA", 184, 1), ("S2S", 185, 1), ("S2R", 186, 1), ("S2HAFT", 187, 1), ("S2PIE", 188, 1),
    ("S2POE", 189, 1), ("DPT_VMATCH", 190, 2), ("S2SL0_2", 194, 1), ("S2DS", 195, 1), ("S2TTB", 196, 52),
    ("S2SKL", 253, 2), ("PARTID", 272, 16), ("PMG", 320, 8), ("AssuredOnly", 329, 1), ("TL0", 330, 1),
    ("TL1", 331, 1), ("VMSPtr", 332, 44), ("S2POI", 448, 64),
];
/// Renode's SMMUv3 model (MIT). What it calls SKL0 and SKL1 are two bits each here.
#[rustfmt::skip]
const RENODE_CD: Positions = &[
    ("T0SZ", 0, 6), ("TG0", 6, 2), ("IR0", 8, 2), ("OR0", 10, 2), ("SH0", 12, 2), ("EPD0", 14, 1),
    ("ENDI", 15, 1), ("T1SZ", 16, 6), ("TG1", 22, 2), ("IR1", 24, 2), ("OR1", 26, 2), ("SH1", 28, 2),
    ("EPD1", 30, 1), ("V", 31, 1), ("IPS", 32, 3), ("AFFD", 35, 1), ("WXN", 36, 1), ("UWXN", 37, 1),
    ("TBI0", 38, 1), ("TBI1", 39, 1), ("PAN", 40, 1), ("AA64", 41, 1), ("HD", 42, 1), ("HA", 43, 1),
    ("S", 44, 1), ("R", 45, 1), ("A", 46, 1), ("ASET", 47, 1), ("ASID", 48, 16), ("NSCFG0", 64, 1),
    ("HAD0", 65, 1), ("E0PD0", 66, 1), ("HAFT", 67, 1), ("TTB0", 68, 52), ("PnCH", 122, 1),
    ("EPAN", 123, 1), ("HWU059", 124, 1), ("HWU060", 125, 1), ("NSCFG1", 128, 1), ("HAD1", 129, 1),
    ("E0PD1", 130, 1), ("AIE", 131, 1), ("TTB1", 132, 52), ("DS", 186, 1), ("PIE", 187, 1),
    ("HWU159", 188, 1), ("HWU160", 189, 1), ("MAIR0", 192, 32), ("MAIR1", 224, 32), ("AMAIR0", 256, 32),
    ("AMAIR1", 288, 32), ("PARTID", 352, 16), ("PMG", 368, 8), ("PIIU", 384, 48), ("PIIP", 448, 48),
];
/// EDK2's SmmuV3Registers.h (BSD-2-Clause-Patent), older than some fields; addresses end at bit 51.
#[rustfmt::skip]
const EDK2_STE: Positions = &[
    ("V", 0, 1), ("Config", 1, 3), ("S1Fmt", 4, 2), ("S1ContextPtr", 6, 46), ("S1CDMax", 59, 5),
    ("S1DSS", 64, 2), ("S1CIR", 66, 2), ("S1COR", 68, 2), ("S1CSH", 70, 2), ("S2HWU59", 72, 1),
    ("S2HWU60", 73, 1), ("S2HWU61", 74, 1), ("S2HWU62", 75, 1), ("DRE", 76, 1), ("CONT", 77, 4),
    ("DCP", 81, 1), ("PPAR", 82, 1), ("MEV", 83, 1), ("SW_RESERVED", 84, 4), ("S2FWB", 89, 1),
    ("S1MPAM", 90, 1), ("S1STALLD", 91, 1), ("EATS", 92, 2), ("STRW", 94, 2), ("MemAttr", 96, 4),
    ("MTCFG", 100, 1), ("ALLOCCFG", 101, 4), ("SHCFG", 108, 2), ("NSCFG", 110, 2), ("PRIVCFG", 112, 2),
    ("INSTCFG", 114, 2), ("IMPDEF_127_116", 116, 12), ("S2VMID", 128, 16), ("IMPDEF_159_144", 144, 16),
    ("S2T0SZ", 160, 6), ("S2SL0", 166, 2), ("S2IR0", 168, 2), ("S2OR0", 170, 2), ("S2SH0", 172, 2),
    ("S2TG", 174, 2), ("S2PS", 176, 3), ("S2AA64", 179, 1), ("S2ENDI", 180, 1), ("S2AFFD", 181, 1),
    ("S2PTW", 182, 1), ("S2HD", 183, 1), ("S2HA", 184, 1), ("S2S", 185, 1), ("S2R", 186, 1),
    ("S2TTB", 196, 48), ("IMPDEF_271_256", 256, 16), ("PARTID", 272, 16), ("PMG", 320, 8),
    ("VMSPtr", 332, 40),
];
/// EDK2's SmmuV3Registers.h (BSD-2-Clause-Patent), older than some fields; addresses end at bit 51.
#[rustfmt::skip]
const EDK2_CD: Positions = &[
    ("T0SZ", 0, 6), ("TG0", 6, 2), ("IR0", 8, 2), ("OR0", 10, 2), ("SH0", 12, 2), ("EPD0", 14, 1),
    ("ENDI", 15, 1), ("T1SZ", 16, 6), ("TG1", 22, 2), ("IR1", 24, 2), ("OR1", 26, 2), ("SH1", 28, 2),
    ("EPD1", 30, 1), ("V", 31, 1), ("IPS", 32, 3), ("AFFD", 35, 1), ("WXN", 36, 1), ("UWXN", 37, 1),
    ("TBI0", 38, 1), ("TBI1", 39, 1), ("PAN", 40, 1), ("AA64", 41, 1), ("HD", 42, 1), ("HA", 43, 1),
    ("S", 44, 1), ("R", 45, 1), ("A", 46, 1), ("ASET", 47, 1), ("ASID", 48, 16), ("NSCFG0", 64, 1),
    ("HAD0", 65, 1), ("TTB0", 68, 48), ("HWU059", 124, 1), ("HWU060", 125, 1), ("HWU061", 126, 1),
    ("HWU062", 127, 1), ("NSCFG1", 128, 1), ("HAD1", 129, 1), ("TTB1", 132, 48), ("HWU159", 188, 1),
    ("HWU160", 189, 1), ("HWU161", 190, 1), ("HWU162", 191, 1), ("MAIR0", 192, 32), ("MAIR1", 224, 32),
    ("AMAIR0", 256, 32), ("AMAIR1", 288, 32), ("IMPDEF_351_320", 320, 32), ("PARTID", 352, 16),
    ("PMG", 368, 8),
];
/// gem5's smmu_v3_defs.hh (BSD-3-Clause), older than some fields.
#[rustfmt::skip]
const GEM5_STE: Positions = &[
    ("V", 0, 1), ("Config", 1, 3), ("S1Fmt", 4, 2), ("S1CDMax", 59, 5), ("S1DSS", 64, 2), ("S1CIR", 66, 2),
    ("S1COR", 68, 2), ("S1CSH", 70, 2), ("S2HWU59", 72, 1), ("S2HWU60", 73, 1), ("S2HWU61", 74, 1),
    ("S2HWU62", 75, 1), ("DRE", 76, 1), ("CONT", 77, 4), ("DCP", 81, 1), ("PPAR", 82, 1), ("MEV", 83, 1),
    ("S1STALLD", 91, 1), ("EATS", 92, 2), ("STRW", 94, 2), ("MemAttr", 96, 4), ("MTCFG", 100, 1),
    ("ALLOCCFG", 101, 4), ("SHCFG", 108, 2), ("NSCFG", 110, 2), ("PRIVCFG", 112, 2), ("INSTCFG", 114, 2),
    ("S2VMID", 128, 16), ("S2T0SZ", 160, 6), ("S2SL0", 166, 2), ("S2IR0", 168, 2), ("S2OR0", 170, 2),
    ("S2SH0", 172, 2), ("S2TG", 174, 2), ("S2PS", 176, 3), ("S2AA64", 179, 1), ("S2ENDI", 180, 1),
    ("S2AFFD", 181, 1), ("S2PTW", 182, 1), ("S2HD", 183, 1), ("S2HA", 184, 1), ("S2S", 185, 1),
    ("S2R", 186, 1),
];
/// gem5's smmu_v3_defs.hh (BSD-3-Clause), older than some fields.
#[rustfmt::skip]
const GEM5_CD: Positions = &[
    ("T0SZ", 0, 6), ("TG0", 6, 2), ("IR0", 8, 2), ("OR0", 10, 2), ("SH0", 12, 2), ("EPD0", 14, 1),
    ("ENDI", 15, 1), ("T1SZ", 16, 6), ("TG1", 22, 2), ("IR1", 24, 2), ("OR1", 26, 2), ("SH1", 28, 2),
    ("EPD1", 30, 1), ("V", 31, 1), ("IPS", 32, 3), ("AFFD", 35, 1), ("WXN", 36, 1), ("UWXN", 37, 1),
    ("PAN", 40, 1), ("AA64", 41, 1), ("HD", 42, 1), ("HA", 43, 1), ("S", 44, 1), ("R", 45, 1), ("A", 46, 1),
    ("ASET", 47, 1), ("ASID", 48, 16), ("NSCFG0", 64, 1), ("HAD0", 65, 1), ("HWU059", 124, 1),
    ("HWU060", 125, 1), ("HWU061", 126, 1), ("HWU062", 127, 1), ("NSCFG1", 128, 1), ("HAD1", 129, 1),
    ("HWU159", 188, 1), ("HWU160", 189, 1), ("HWU161", 190, 1), ("HWU162", 191, 1),
];
/// FreeBSD's smmu_reg.h (BSD-2-Clause): its fields with a mask.
#[rustfmt::skip]
const FREEBSD_STE: Positions = &[
    ("V", 0, 1), ("Config", 1, 3), ("S1Fmt", 4, 2), ("S1CDMax", 59, 5), ("S1DSS", 64, 2), ("S1CIR", 66, 2),
    ("S1COR", 68, 2), ("S2HWU59", 72, 1), ("S2HWU62", 75, 1), ("DRE", 76, 1), ("CONT", 77, 4), ("DCP", 81, 1),
    ("PPAR", 82, 1), ("MEV", 83, 1), ("S1STALLD", 91, 1), ("EATS", 92, 2), ("STRW", 94, 2), ("MTCFG", 100, 1),
    ("SHCFG", 108, 2), ("NSCFG", 110, 2), ("S2VMID", 128, 16), ("S2T0SZ", 160, 6), ("S2SL0", 166, 2),
    ("S2IR0", 168, 2), ("S2OR0", 170, 2), ("S2SH0", 172, 2), ("S2TG", 174, 2), ("S2PS", 176, 3),
    ("S2AA64", 179, 1), ("S2ENDI", 180, 1), ("S2AFFD", 181, 1), ("S2PTW", 182, 1), ("S2S", 185, 1),
    ("S2R", 186, 1),
];
/// OpenVMM's SMMUv3 emulator (MIT): the first two words.
#[rustfmt::skip]
const OPENVMM_STE: Positions = &[
    ("V", 0, 1), ("Config", 1, 3), ("S1Fmt", 4, 2), ("S1ContextPtr", 6, 50), ("S1CDMax", 59, 5), ("S1DSS", 64, 2),
    ("S1CIR", 66, 2), ("S1COR", 68, 2), ("S1CSH", 70, 2), ("DRE", 76, 1), ("CONT", 77, 4), ("DCP", 81, 1),
    ("PPAR", 82, 1), ("MEV", 83, 1), ("SW_RESERVED", 84, 4), ("S1PIE", 88, 1), ("S2FWB", 89, 1), ("S1MPAM", 90, 1),
    ("S1STALLD", 91, 1), ("EATS", 92, 2), ("STRW", 94, 2), ("MemAttr", 96, 4), ("MTCFG", 100, 1),
    ("ALLOCCFG", 101, 4), ("SHCFG", 108, 2), ("NSCFG", 110, 2), ("PRIVCFG", 112, 2), ("INSTCFG", 114, 2),
    ("IMPDEF_127_116", 116, 12),
];
/// EDK2's SmmuV3Registers.h: addresses end at bit 51.
const EDK2_L1STD: Positions = &[("Span", 0, 5), ("L2Ptr", 6, 46)];
const EDK2_L1CD: Positions = &[("V", 0, 1), ("L2Ptr", 12, 40)];

/// Addresses grew from 52 to 56 bits, and old sources may have the shorter field.
const GREW: &[&str] = &["S1ContextPtr", "S2TTB", "VMSPtr", "TTB0", "TTB1", "L2Ptr"];

#[rstest]
#[case::renode_ste(RENODE_STE, &ste::LAYOUT)]
#[case::renode_cd(RENODE_CD, &cd::LAYOUT)]
#[case::edk2_ste(EDK2_STE, &ste::LAYOUT)]
#[case::edk2_cd(EDK2_CD, &cd::LAYOUT)]
#[case::gem5_ste(GEM5_STE, &ste::LAYOUT)]
#[case::gem5_cd(GEM5_CD, &cd::LAYOUT)]
#[case::freebsd_ste(FREEBSD_STE, &ste::LAYOUT)]
#[case::openvmm_ste(OPENVMM_STE, &ste::LAYOUT)]
#[case::edk2_l1std(EDK2_L1STD, &l1std::LAYOUT)]
#[case::edk2_l1cd(EDK2_L1CD, &l1cd::LAYOUT)]
fn positions(#[case] outside: Positions, #[case] layout: &Layout) {
    for &(name, lo, width) in outside {
        let field = layout.field(name).unwrap_or_else(|| panic!("no {name}"));
        let ours = (field.lo(), field.hi() - field.lo() + 1);
        let short = GREW.contains(&name) && ours == (lo, width + 4);
        assert!(short || ours == (lo, width), "{name}: {ours:?}, not {:?}", (lo, width));
    }
}

#[test]
fn every_field_has_an_outside_position() {
    // Renode joins these pairs, and has no names for what is implementation defined.
    let pairs = ["HWU061", "HWU062", "HWU161", "HWU162"];
    for (layout, sources) in [
        (&ste::LAYOUT, [RENODE_STE, EDK2_STE, GEM5_STE]),
        (&cd::LAYOUT, [RENODE_CD, EDK2_CD, GEM5_CD]),
        (&l1std::LAYOUT, [EDK2_L1STD; 3]),
        (&l1cd::LAYOUT, [EDK2_L1CD; 3]),
    ] {
        for field in layout.fields() {
            let known =
                sources.iter().flat_map(|source| source.iter()).any(|row| row.0 == field.name());
            assert!(known || pairs.contains(&field.name()), "{}.{}", layout.name(), field.name());
        }
    }
}

#[test]
fn partid_map_has_32_entries_of_16_bits() {
    for (index, field) in vms::LAYOUT.fields().iter().enumerate() {
        assert_eq!((field.lo() as usize, field.hi() as usize), (16 * index, 16 * index + 15));
    }
    assert_eq!(vms::LAYOUT.fields().len(), 32);
}

/// Linux's KUnit tests of its driver (arm-smmu-v3-test.c), whose addresses and numbers these are.
#[test]
fn stes_of_linux_tests_split_into_the_fields_that_made_them() {
    let cd_table = Ste([0xf800_f0f0_f0f0_f0eb, 0x1800_00d6, 0, 0, 0, 0, 0, 0]);
    for (key, value) in [
        (ste::V, 1),
        (ste::CONFIG, 5),
        (ste::S1FMT, 2),
        (ste::S1CONTEXTPTR, 0xf0f0_f0f0_f0c0),
        (ste::S1CDMAX, 31),
        (ste::S1DSS, 2),
        (ste::S1CIR, 1),
        (ste::S1COR, 1),
        (ste::S1CSH, 3),
        (ste::S1STALLD, 1),
        (ste::EATS, 1),
        (ste::STRW, 0),
    ] {
        assert_eq!(cd_table.get(key), value, "{}", key.field().name());
    }
    let stage2 =
        Ste([0xd, 0x0000_1000_1000_0000, 0x0449_b6c4_0000_0000, 0x000d_beef_dead_bee0, 0, 0, 0, 0]);
    for (key, value) in [
        (ste::CONFIG, 6),
        (ste::SHCFG, 1),
        (ste::EATS, 1),
        (ste::S2VMID, 0),
        (ste::S2T0SZ, 4),
        (ste::S2SL0, 3),
        (ste::S2IR0, 2),
        (ste::S2OR0, 1),
        (ste::S2SH0, 3),
        (ste::S2TG, 2),
        (ste::S2PS, 1),
        (ste::S2AA64, 1),
        (ste::S2PTW, 1),
        (ste::S2R, 1),
        (ste::S2S, 0),
        (ste::S2TTB, 0x000d_beef_dead_bee0),
    ] {
        assert_eq!(stage2.get(key), value, "{}", key.field().name());
    }
    for entry in [cd_table, stage2] {
        assert_eq!(ste::LAYOUT.residue(&entry.0).count(), 0);
    }
}

#[test]
fn cd_of_linux_tests_splits_into_the_fields_that_made_it() {
    let words =
        [0x030a_e201_c000_3684, 0x000d_beef_dead_bee0, 0, 0x0abc_def0_1234_5678, 0, 0, 0, 0];
    for (key, value) in [
        (cd::T0SZ, 4),
        (cd::TG0, 2),
        (cd::IR0, 2),
        (cd::OR0, 1),
        (cd::SH0, 3),
        (cd::EPD0, 0),
        (cd::EPD1, 1),
        (cd::V, 1),
        (cd::IPS, 1),
        (cd::AA64, 1),
        (cd::R, 1),
        (cd::A, 1),
        (cd::S, 0),
        (cd::ASET, 1),
        (cd::ASID, 778),
        (cd::TTB0, 0x000d_beef_dead_bee0),
        (cd::MAIR0, 0x1234_5678),
        (cd::MAIR1, 0x0abc_def0),
    ] {
        assert_eq!(Cd(words).get(key), value, "{}", key.field().name());
    }
    assert_eq!(cd::LAYOUT.residue(&words).count(), 0);
}

#[test]
fn what_the_high_level_configurations_cannot_say_is_set_by_key() {
    let table = TableConfig {
        format: 0,
        context: PhysAddr(0x8000_0000),
        cd_max: 0,
        substream_default: SubstreamDefault::Terminate,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        stall_disable: false,
        world: StreamWorld::El1,
    };
    let entry = Ste::stage1(table, AtsMode::Off, ShareabilityOverride::NonShareable).unwrap();
    let entry = entry.with(ste::PRIVCFG, 3).unwrap().with(ste::INSTCFG, 2).unwrap();
    assert_eq!(entry.0[1], 0x000b_0000_0000_00d4);
    assert_eq!(entry.0[1] & !entry.used()[1], 0, "an update waits for them");

    let config = Stage1Config {
        asid: Asid(1),
        t0sz: 16,
        granule: Granule::K4,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        output_size: OutputSize::Bits48,
        table: PhysAddr(0x8020_0000),
        mair: 0xff,
        stall: false,
    };
    let context = [
        (cd::EPD1, 0),
        (cd::T1SZ, 16),
        (cd::TG1, 2),
        (cd::IR1, 1),
        (cd::OR1, 1),
        (cd::SH1, 3),
        (cd::TTB1, 0x8030_0000),
        (cd::HA, 1),
        (cd::HD, 1),
        (cd::TBI1, 1),
    ]
    .into_iter()
    .fold(Cd::stage1(config).unwrap(), |context, (key, value)| context.with(key, value).unwrap());
    assert_eq!(context.0, [0x0001_ee85_b590_3510, 0x8020_0000, 0x8030_0000, 0xff, 0, 0, 0, 0]);
    assert_eq!(context.decode(), None, "Stage1Config has no TTB1");
}

#[test]
fn level_1_descriptors() {
    // QEMU's SMMUv3 accepted the first. Linux writes the second for a table of 1024 CDs.
    assert_eq!(
        StreamTableDescriptor::new(PhysAddr(0x4004_0000), 8),
        Ok(StreamTableDescriptor([0x4004_0009]))
    );
    assert_eq!(
        ContextTableDescriptor::new(PhysAddr(0x8001_0000)),
        Ok(ContextTableDescriptor([0x8001_0001]))
    );
}
