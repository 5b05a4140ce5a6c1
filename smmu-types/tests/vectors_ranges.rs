//! Alignments that a span requires, against the literal bits of IHI 0070, 4.4.1.1. An address with
//! one of them set makes the range unpredictable (64-bit descriptors) or empty (128-bit
//! descriptors).

use rstest::rstest;
use smmu_types::range::{Level, LevelHint, Span};
use smmu_types::{Asid, Command, FieldError, Granule, Iova, Ipa, Leaf, RawCommand, Vmid};

use Granule::{K4, K16, K64};
use Level::{L1, L2, L3};
use LevelHint::{Bits64, Bits128, Unknown};

/// The highest bit that must be zero. The command does not hold bits 11:0.
#[rstest]
#[case(K4, Unknown, 11)]
#[case(K4, Bits64(L3), 11)]
#[case(K4, Bits64(L2), 20)]
#[case(K4, Bits64(L1), 29)]
#[case(K16, Unknown, 13)]
#[case(K16, Bits64(L3), 13)]
#[case(K16, Bits64(L2), 24)]
#[case(K16, Bits64(L1), 35)]
#[case(K64, Unknown, 15)]
#[case(K64, Bits64(L3), 15)]
#[case(K64, Bits64(L2), 28)]
#[case(K64, Bits64(L1), 41)]
#[case(K4, Bits128(L3), 11)]
#[case(K4, Bits128(L2), 19)]
#[case(K4, Bits128(L1), 27)]
#[case(K16, Bits128(L3), 13)]
#[case(K16, Bits128(L2), 23)]
#[case(K16, Bits128(L1), 33)]
#[case(K64, Bits128(L3), 15)]
#[case(K64, Bits128(L2), 27)]
#[case(K64, Bits128(L1), 39)]
fn addresses_are_aligned(#[case] granule: Granule, #[case] hint: LevelHint, #[case] top: u32) {
    for bit in 0..64 {
        let address = Iova(1 << bit);
        let span = Span::ranged(address, Leaf::Last, granule, 1, 0, hint);
        if bit <= top {
            let align = 2 << top;
            let (field, value) = ("Address", address.0);
            assert_eq!(span, Err(FieldError::Misaligned { field, value, align }));
        } else {
            let span = span.unwrap();
            let (vmid, asid) = (Vmid(1), Asid(2));
            let command = Command::TlbiNhVa { vmid, asid, span };
            assert_eq!(Command::decode(command.encode()), command);
        }
        // Operands that no constructor builds do not decode either.
        let aligned = Span::ranged(Iova(0), Leaf::Last, granule, 1, 0, hint).unwrap();
        let RawCommand([w0, w1]) = Command::TlbiEl2Vaa { span: aligned }.encode();
        let decoded = Command::decode(RawCommand([w0, w1 | address.0 & !0xfff]));
        let known = !matches!(decoded, Command::Unknown(_));
        assert_eq!(known, bit > top || bit < 12, "bit {bit}");
    }
}

/// `(NUM + 1) * 2^SCALE` granules.
#[rstest]
#[case(K4, 0, 1, 0x2000)]
#[case(K4, 31, 0, 0x2_0000)]
#[case(K16, 2, 3, 0x6_0000)]
#[case(K64, 31, 39, 1 << 60)]
fn bytes(#[case] granule: Granule, #[case] num: u8, #[case] scale: u8, #[case] want: u64) {
    let span = Span::ranged(Iova(0), Leaf::All, granule, num, scale, Unknown).unwrap();
    assert_eq!(span.bytes(), Some(want));
}

#[test]
fn numbers_are_in_range() {
    let span = |num, scale, hint| Span::ranged(Iova(0), Leaf::Last, K4, num, scale, hint);
    let too_large = |field, value, max| Err(FieldError::TooLarge { field, value, max });
    assert_eq!(span(32, 0, Unknown), too_large("NUM", 32, 31));
    assert_eq!(span(0, 40, Unknown), too_large("SCALE", 40, 39));
    assert_eq!(span(0, 0, Unknown), Err(FieldError::Reserved { field: "TTL", value: 0 }));
    assert!(span(0, 0, Bits64(L3)).is_ok());
    assert_eq!(LevelHint::from_ttl(4), None);
}

#[test]
fn single_addresses_are_pages_that_the_field_holds() {
    assert!(Span::single(Iova(!0xfff), Leaf::Last).is_ok());
    assert!(Span::single(Iova(0x800), Leaf::Last).is_err());
    assert!(Span::single(Ipa((1 << 56) - 0x1000), Leaf::Last).is_ok());
    let error = Span::single(Ipa(1 << 56), Leaf::Last).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Address = 0x100000000000000 does not fit; the largest value is 0xfffffffffff000"
    );
    assert!(Span::ranged(Ipa(1 << 56), Leaf::Last, K4, 1, 0, Unknown).is_err());
}
