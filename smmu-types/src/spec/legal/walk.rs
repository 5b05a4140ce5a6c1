//! Sizes and levels of translation tables, as the A-profile architecture counts them.

/// log2 of the bytes of a granule: `CD.TG0` and `STE.S2TG`.
pub(super) const fn granule0(encoding: u64) -> Option<u8> {
    match encoding {
        0 => Some(12),
        1 => Some(16),
        2 => Some(14),
        _ => None,
    }
}

/// log2 of the bytes of a granule: `CD.TG1`.
pub(super) const fn granule1(encoding: u64) -> Option<u8> {
    match encoding {
        1 => Some(14),
        2 => Some(12),
        3 => Some(16),
        _ => None,
    }
}

/// The address bits that the levels below `level` resolve.
const fn below(shift: u8, level: i8) -> u8 {
    shift + (3 - level) as u8 * (shift - 3)
}

/// The level at which a walk of stage 1 starts.
pub(super) const fn start_level(input_bits: u8, shift: u8) -> i8 {
    let upper = input_bits.saturating_sub(shift + 1);
    3 - (upper / (shift - 3)) as i8
}

/// The level at which a walk of VMSAv9-128 tables starts: their descriptors are twice as large.
pub(super) const fn wide_start_level(input_bits: u8, shift: u8) -> i8 {
    let upper = input_bits.saturating_sub(shift + 1);
    3 - (upper / (shift - 4)) as i8
}

/// The level that `S2SL0` and `S2SL0_2` encode, or `None` for a reserved value.
pub(super) const fn start_level2(
    shift: u8,
    sl0: u64,
    sl2: u64,
    small_tables: u8,
    ds: u64,
) -> Option<i8> {
    match (shift, sl0, sl2 & ds) {
        (12, 0, 1) => Some(-1),
        (12, _, 1) => None,
        (12, 0..=2, _) => Some(2 - sl0 as i8),
        (12, 3, _) if small_tables != 0 => Some(3),
        (14 | 16, 0..=2, _) => Some(3 - sl0 as i8),
        (14, 3, _) if ds != 0 => Some(0),
        _ => None,
    }
}

/// The output size in bits that stage 2 needs to start at this level.
pub(super) const fn output_needed(shift: u8, level: i8) -> u8 {
    match (shift, level) {
        (12, -1) | (14, 0) => 52,
        (12, 0) | (16, 1) => 44,
        (14, 1) => 42,
        _ => 0,
    }
}

/// The fewest and the most input bits of a walk of stage 2 from this level. Up to 16 first tables
/// lie side by side.
pub(super) const fn input_range(shift: u8, level: i8) -> (u8, u8) {
    let min = below(shift, level) + 1;
    (min, min + (shift - 3 - 1) + 4)
}

/// log2 of the bytes of the first table, or of the first tables side by side.
pub(super) const fn first_table(input_bits: u8, shift: u8, level: i8) -> u8 {
    input_bits.saturating_sub(below(shift, level)) + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_sizes() {
        assert_eq!(start_level(48, 12), 0);
        assert_eq!(start_level(39, 12), 1);
        assert_eq!(start_level(52, 12), -1);
        assert_eq!(start_level(48, 14), 0);
        assert_eq!(start_level(47, 14), 1);
        assert_eq!(start_level(48, 16), 1);
        assert_eq!(start_level(16, 12), 3);
        assert_eq!(first_table(48, 12, 0), 12);
        assert_eq!(first_table(48, 14, 0), 4);
        assert_eq!(first_table(43, 12, 1), 16);
        assert_eq!(input_range(12, 1), (31, 43));
        assert_eq!(input_range(12, 0), (40, 52));
        assert_eq!(input_range(12, -1), (49, 61));
        assert_eq!(input_range(16, 1), (43, 59));
        assert_eq!(input_range(14, 1), (37, 51));
        // AArch64.S2InvalidSL of the A-profile architecture.
        for (shift, level, bits) in [
            (12, -1, 52),
            (12, 0, 44),
            (12, 1, 0),
            (14, 0, 52),
            (14, 1, 42),
            (16, 1, 44),
            (16, 2, 0),
        ] {
            assert_eq!(output_needed(shift, level), bits);
        }
    }
}
