//! Reserved windows are made of whole pages, joined, and refused where mapping them is not safe.

use rstest::rstest;
use smmu_driver::smmu_attach::{TableDescription, TranslationStage};
use smmu_driver::smmu_hw_mmio::firmware::{MemoryType, ReservedWindow};
use smmu_driver::smmu_types::{Granule, Iova, OutputSize, PhysAddr};
use smmu_driver::windows::{MemoryRange, WindowError, Windows, WindowsError};

/// 4 KiB granule, 39 bits of input, 40 of output.
fn tables() -> TableDescription {
    TableDescription::new(TranslationStage::Stage1 { mair: 0xff }, PhysAddr(0))
}

fn range(first: u64, last: u64) -> MemoryRange {
    MemoryRange { first: PhysAddr(first), last: PhysAddr(last) }
}

fn windows(
    tables: &TableDescription,
    all: &[ReservedWindow],
    in_use: &[MemoryRange],
) -> Result<Windows, WindowError> {
    Windows::new(tables, all.iter().copied().map(Ok), in_use).map_err(|error| match error {
        WindowsError::Window(error) => error,
        WindowsError::Table(()) => unreachable!(),
    })
}

fn identity(memory: u64, length: u64) -> ReservedWindow {
    ReservedWindow::identity(PhysAddr(memory), length)
}

fn moved(iova: u64, memory: u64, length: u64) -> ReservedWindow {
    ReservedWindow::new(Iova(iova), PhysAddr(memory), length)
}

/// With the place `at` in the table.
fn placed(mut window: ReservedWindow, at: u32) -> ReservedWindow {
    window.at = at;
    window
}

fn told(windows: &Windows) -> Vec<(u64, u64, u64)> {
    let all = windows.mapped().iter();
    all.map(|one| (one.iova.0, one.memory.0, one.length)).collect()
}

#[rstest]
// A byte, and the last and the first byte of two pages.
#[case(Granule::K4, identity(0x5123, 1), (0x5000, 0x5000, 0x1000))]
#[case(Granule::K4, identity(0x5fff, 2), (0x5000, 0x5000, 0x2000))]
#[case(Granule::K4, identity(0x5000, 0x1000), (0x5000, 0x5000, 0x1000))]
#[case(Granule::K16, identity(0x5000, 0x1000), (0x4000, 0x4000, 0x4000))]
#[case(Granule::K64, identity(0x1_f000, 0x2000), (0x1_0000, 0x1_0000, 0x2_0000))]
#[case(Granule::K4, moved(0x1_0800, 0x8000_2800, 0x1000), (0x1_0000, 0x8000_2000, 0x2000))]
#[case(Granule::K4, identity(0, 1), (0, 0, 0x1000))]
// The last page of 39 bits of input.
#[case(Granule::K4, identity(0x7f_ffff_ffff, 1), (0x7f_ffff_f000, 0x7f_ffff_f000, 0x1000))]
// The last page of 40 bits of output.
#[case(Granule::K4, moved(0xfff, 0xff_ffff_ffff, 1), (0, 0xff_ffff_f000, 0x1000))]
fn a_window_has_whole_pages(
    #[case] granule: Granule,
    #[case] window: ReservedWindow,
    #[case] want: (u64, u64, u64),
) {
    let all = windows(&TableDescription { granule, ..tables() }, &[window], &[]).unwrap();
    assert_eq!(told(&all), [want]);
}

#[rstest]
// In any order; twice the same; one inside of another; one at the end of another.
#[case(&[identity(0x9000, 0x1000), identity(0x5000, 0x1000)], &[(0x5000, 0x1000), (0x9000, 0x1000)])]
#[case(&[identity(0x5000, 0x1000), identity(0x5000, 0x1000)], &[(0x5000, 0x1000)])]
#[case(&[identity(0x6000, 0x1000), identity(0x5000, 0x4000)], &[(0x5000, 0x4000)])]
#[case(&[identity(0x5000, 0x4000), identity(0x6000, 0x1000), identity(0x9000, 0x1000)], &[(0x5000, 0x5000)])]
#[case(&[identity(0x6000, 0x1000), identity(0x5000, 0x1000)], &[(0x5000, 0x2000)])]
// Two in one page, and one that reaches into the page of the next.
#[case(&[identity(0x5100, 0x100), identity(0x5800, 0x100)], &[(0x5000, 0x1000)])]
#[case(&[identity(0x5100, 0x1000), identity(0x6800, 0x100)], &[(0x5000, 0x2000)])]
#[case(&[], &[])]
fn windows_that_meet_become_one(#[case] all: &[ReservedWindow], #[case] want: &[(u64, u64)]) {
    let joined = windows(&tables(), all, &[]).unwrap();
    let want: Vec<_> = want.iter().map(|(first, length)| (*first, *first, *length)).collect();
    assert_eq!(told(&joined), want);
}

#[test]
fn neighbours_of_another_kind_stay_apart() {
    let mut device = identity(0x6000, 0x1000);
    device.memory_type = Some(MemoryType::DeviceNGnRE);
    let mut secret = identity(0x7000, 0x1000);
    secret.privileged = true;
    let all = [moved(0x8000, 0x5000, 0x1000), secret, device, identity(0x5000, 0x1000)];
    let apart = windows(&tables(), &all, &[]).unwrap();
    let want = [0x5000, 0x6000, 0x7000].map(|at| (at, at, 0x1000));
    assert_eq!(told(&apart), [&want[..], &[(0x8000, 0x5000, 0x1000)]].concat());
    let seen: Vec<_> = apart.mapped().iter().map(|one| (one.memory_type, one.privileged)).collect();
    let device = Some(MemoryType::DeviceNGnRE);
    assert_eq!(seen, [(None, false), (device, false), (None, true), (None, false)]);
}

#[rstest]
#[case::memory(moved(0x6000, 0x9000, 0x1000), 0x6000)]
#[case::memory_type({ let mut one = identity(0x5800, 0x10); one.memory_type = Some(MemoryType::DeviceGRE); one }, 0x5000)]
#[case::privilege({ let mut one = identity(0x6fff, 0x1); one.privileged = true; one }, 0x6000)]
fn windows_that_meet_and_differ_are_refused(#[case] second: ReservedWindow, #[case] iova: u64) {
    let first = placed(identity(0x5000, 0x2000), 0x30);
    for all in [[first, placed(second, 0x44)], [placed(second, 0x44), first]] {
        let error = windows(&tables(), &all, &[]).unwrap_err();
        assert_eq!(error, WindowError::Conflict { iova: Iova(iova), at: 0x30, other: 0x44 });
    }
}

#[rstest]
#[case(identity(0x5000, 0), WindowError::Empty { iova: Iova(0x5000), at: 7 })]
#[case(ReservedWindow::hole(Iova(0x5000), 0), WindowError::Empty { iova: Iova(0x5000), at: 7 })]
#[case(
    identity(u64::MAX - 0xffe, 0x1000),
    WindowError::Wraps { first: u64::MAX - 0xffe, length: 0x1000, at: 7 }
)]
#[case(identity(0x1000, u64::MAX), WindowError::Wraps { first: 0x1000, length: u64::MAX, at: 7 })]
#[case(
    ReservedWindow::hole(Iova(u64::MAX), 2),
    WindowError::Wraps { first: u64::MAX, length: 2, at: 7 }
)]
#[case(
    moved(0x1000, u64::MAX - 0xfff, 0x1001),
    WindowError::Wraps { first: u64::MAX - 0xfff, length: 0x1001, at: 7 }
)]
#[case(
    moved(0x1800, 0x8000_0000, 0x1000),
    WindowError::Misaligned { iova: Iova(0x1800), memory: PhysAddr(0x8000_0000), page: 0x1000, at: 7 }
)]
#[case(
    identity(0x7f_ffff_f000, 0x1001),
    WindowError::InputSize { last: 0x80_0000_0000, bits: 39, at: 7 }
)]
#[case(
    moved(0x1000, 0xff_ffff_f000, 0x1001),
    WindowError::OutputSize { last: 0x100_0000_0000, bits: 40, at: 7 }
)]
#[case(identity(0, u64::MAX), WindowError::InputSize { last: u64::MAX - 1, bits: 39, at: 7 })]
fn unsafe_windows_are_refused(#[case] window: ReservedWindow, #[case] want: WindowError) {
    // Others beside it change nothing.
    let all = [identity(0x4000_0000, 0x1000), placed(window, 7)];
    assert_eq!(windows(&tables(), &all, &[]).unwrap_err(), want);
    assert!(want.to_string().contains("byte 0x7 of the table"), "{want}");
}

#[test]
fn the_granule_decides_what_is_misaligned() {
    let window = moved(0x1000, 0x8000_2000, 0x1000);
    for (granule, fits) in [(Granule::K4, true), (Granule::K16, false), (Granule::K64, false)] {
        let wide = TableDescription { granule, ..tables() };
        assert_eq!(windows(&wide, &[window], &[]).is_ok(), fits, "{granule:?}");
    }
}

#[test]
fn tables_of_all_bits_bound_the_output_alone() {
    let wide = TableDescription { t0sz: 0, output_size: OutputSize::Bits52, ..tables() };
    let last = (1 << 52) - 1;
    let window = moved(u64::MAX - 0xfff, last - 0xfff, 0x1000);
    assert_eq!(told(&windows(&wide, &[window], &[]).unwrap()), [(!0xfff, last - 0xfff, 0x1000)]);
    let error = windows(&wide, &[moved(0, last, 2)], &[]).unwrap_err();
    assert!(matches!(error, WindowError::Misaligned { .. }), "{error}");
    let error = windows(&wide, &[moved(0xfff, last, 2)], &[]).unwrap_err();
    assert_eq!(error, WindowError::OutputSize { last: last + 1, bits: 52, at: 0 });
}

#[rstest]
#[case(range(0x4fff, 0x4fff), false)]
#[case(range(0x5000, 0x5000), true)]
#[case(range(0x6fff, 0x6fff), true)]
#[case(range(0x7000, u64::MAX), false)]
#[case(range(0, u64::MAX), true)]
#[case(range(0x5800, 0x5fff), true)]
fn memory_in_use_is_out_of_reach(#[case] in_use: MemoryRange, #[case] reached: bool) {
    // Of its last page the window has one byte, and of its first 0x100.
    let window = placed(moved(0x1_0f00, 0x5f00, 0x101), 9);
    let all = windows(&tables(), &[window], &[range(0x1_0000, 0x1_ffff), in_use]);
    if reached {
        let want = WindowError::InUse { memory: PhysAddr(0x5000), in_use, at: 9 };
        assert_eq!(all.unwrap_err(), want);
    } else {
        assert_eq!(told(&all.unwrap()), [(0x1_0000, 0x5000, 0x2000)]);
    }
}

#[test]
fn holes_are_not_mapped_and_may_hold_windows() {
    let hole = ReservedWindow::hole(Iova(0x10), 0xffff_ff00);
    let top = ReservedWindow::hole(Iova(u64::MAX), 1);
    let all = windows(&tables(), &[hole, identity(0x5000, 1), top], &[]).unwrap();
    assert_eq!(told(&all), [(0x5000, 0x5000, 0x1000)]);
    assert_eq!(all.holes(), [(Iova(0x10), 0xffff_ff00), (Iova(u64::MAX), 1)]);
}

#[test]
fn an_error_of_the_firmware_table_ends_it() {
    let all = [Ok(identity(0x5000, 1)), Err("wrong"), Ok(identity(0, 0))];
    let error = Windows::new(&tables(), all, &[]).unwrap_err();
    assert_eq!(error, WindowsError::Table("wrong"));
    assert_eq!(error.to_string(), "a reserved window cannot be read: wrong");
}
