//! The fields of the two structures, with the values that are worth trying (IHI 0070, 5.2 and 5.4).
//!
//! `STE.CONT` is not among them: what an STE of a span does whose neighbours differ is not defined.

/// One field: its name, and its bits in the 512 of the structure.
pub(super) struct TriedField {
    pub(super) name: &'static str,
    hi: usize,
    lo: usize,
    values: Values,
}

enum Values {
    /// Every value.
    All,
    /// These.
    These(&'static [u64]),
    /// 0 and the largest value.
    Ends,
    /// The address that is there with one more bit, and 0. The field holds the bits from this one.
    Address(u32),
}

use Values::{Address, All, Ends, These};

const fn field(name: &'static str, hi: usize, lo: usize, values: Values) -> TriedField {
    TriedField { name, hi, lo, values }
}

impl TriedField {
    const fn mask(&self) -> u64 {
        u64::MAX >> (63 - (self.hi - self.lo))
    }

    pub(super) fn get(&self, words: &[u64; 8]) -> u64 {
        words[self.lo / 64] >> (self.lo % 64) & self.mask()
    }

    pub(super) fn set(&self, words: &mut [u64; 8], value: u64) {
        let word = &mut words[self.lo / 64];
        *word &= !(self.mask() << (self.lo % 64));
        *word |= (value & self.mask()) << (self.lo % 64);
    }

    /// The values to try in a structure that now holds `words`, without the one that it has.
    pub(super) fn values(&self, words: &[u64; 8], output_bits: u32) -> Vec<u64> {
        let now = self.get(words);
        let mut values = match self.values {
            All => (0..=self.mask()).collect(),
            These(values) => values.to_vec(),
            Ends => vec![0, self.mask()],
            Address(low) => {
                let bits = [0, 6, 11, 13, output_bits - 1, output_bits, 47, 48, 51, 52, 55];
                let bits = bits.into_iter().filter(|&bit| bit == 0 || bit >= low);
                let with = bits.map(|bit| now | 1 << bit.saturating_sub(low));
                with.chain([0]).collect()
            }
        };
        values.sort_unstable();
        values.dedup();
        values.retain(|&value| value != now && value <= self.mask());
        values
    }
}

const SIZES: &[u64] = &[0, 8, 12, 15, 16, 17, 19, 20, 21, 24, 26, 30, 33, 34, 35, 39, 40, 48, 63];
const TAGS: &[u64] = &[0, 1, 0xff, 0x100, 0xffff];

/// Bits that a Non-secure structure of no version that QEMU or the model has are named `reserved`.
pub(super) const STE: &[TriedField] = &[
    field("V", 0, 0, All),
    field("Config", 3, 1, All),
    field("S1Fmt", 5, 4, All),
    field("S1ContextPtr", 55, 6, Address(6)),
    field("reserved[58:56]", 58, 56, These(&[1, 2, 4, 7])),
    field("S1CDMax", 63, 59, These(&[0, 1, 5, 6, 7, 10, 11, 16, 20, 21, 31])),
    field("S1DSS", 65, 64, All),
    field("S1CIR", 67, 66, All),
    field("S1COR", 69, 68, All),
    field("S1CSH", 71, 70, All),
    field("S2HWU", 75, 72, Ends),
    field("DRE", 76, 76, All),
    field("DCP", 81, 81, All),
    field("PPAR", 82, 82, All),
    field("MEV", 83, 83, All),
    field("SW_RESERVED", 87, 84, Ends),
    field("S1PIE", 88, 88, All),
    field("S2FWB", 89, 89, All),
    field("S1MPAM", 90, 90, All),
    field("S1STALLD", 91, 91, All),
    field("EATS", 93, 92, All),
    field("STRW", 95, 94, All),
    field("MemAttr", 99, 96, These(&[0, 4, 5, 15])),
    field("MTCFG", 100, 100, All),
    field("ALLOCCFG", 104, 101, These(&[0, 8, 15])),
    field("reserved[107:105]", 107, 105, Ends),
    field("SHCFG", 109, 108, All),
    field("NSCFG", 111, 110, All),
    field("PRIVCFG", 113, 112, All),
    field("INSTCFG", 115, 114, All),
    field("implementation[127:116]", 127, 116, Ends),
    field("S2VMID", 143, 128, These(TAGS)),
    field("implementation[159:144]", 159, 144, Ends),
    field("S2T0SZ", 165, 160, These(SIZES)),
    field("S2SL0", 167, 166, All),
    field("S2IR0", 169, 168, All),
    field("S2OR0", 171, 170, All),
    field("S2SH0", 173, 172, All),
    field("S2TG", 175, 174, All),
    field("S2PS", 178, 176, All),
    field("S2AA64", 179, 179, All),
    field("S2ENDI", 180, 180, All),
    field("S2AFFD", 181, 181, All),
    field("S2PTW", 182, 182, All),
    field("S2HD", 183, 183, All),
    field("S2HA", 184, 184, All),
    field("S2S", 185, 185, All),
    field("S2R", 186, 186, All),
    field("S2HAFT", 187, 187, All),
    field("S2PIE", 188, 188, All),
    field("S2POE", 189, 189, All),
    field("DPT_VMATCH", 191, 190, All),
    field("S2NSW", 192, 192, All),
    field("S2NSA", 193, 193, All),
    field("S2SL0_2", 194, 194, All),
    field("S2DS", 195, 195, All),
    field("S2TTB", 247, 196, Address(4)),
    field("reserved[252:248]", 252, 248, Ends),
    field("S2SKL", 254, 253, All),
    field("implementation[271:256]", 271, 256, Ends),
    field("PARTID", 287, 272, Ends),
    field("S_S2T0SZ", 293, 288, Ends),
    field("S_S2SL0", 295, 294, Ends),
    field("S_S2TG", 303, 302, Ends),
    field("MECID", 319, 304, Ends),
    field("PMG", 327, 320, Ends),
    field("word5[63:8]", 383, 328, Ends),
    field("word6", 447, 384, Ends),
    field("word7", 511, 448, Ends),
];

pub(super) const CD: &[TriedField] = &[
    field("T0SZ", 5, 0, These(SIZES)),
    field("TG0", 7, 6, All),
    field("IR0", 9, 8, All),
    field("OR0", 11, 10, All),
    field("SH0", 13, 12, All),
    field("EPD0", 14, 14, All),
    field("ENDI", 15, 15, All),
    field("T1SZ", 21, 16, These(SIZES)),
    field("TG1", 23, 22, All),
    field("IR1", 25, 24, All),
    field("OR1", 27, 26, All),
    field("SH1", 29, 28, All),
    field("EPD1", 30, 30, All),
    field("V", 31, 31, All),
    field("IPS", 34, 32, All),
    field("AFFD", 35, 35, All),
    field("WXN", 36, 36, All),
    field("UWXN", 37, 37, All),
    field("TBI0", 38, 38, All),
    field("TBI1", 39, 39, All),
    field("PAN", 40, 40, All),
    field("AA64", 41, 41, All),
    field("HD", 42, 42, All),
    field("HA", 43, 43, All),
    field("S", 44, 44, All),
    field("R", 45, 45, All),
    field("A", 46, 46, All),
    field("ASET", 47, 47, All),
    field("ASID", 63, 48, These(TAGS)),
    field("NSCFG0", 64, 64, All),
    field("HAD0", 65, 65, All),
    field("E0PD0", 66, 66, All),
    field("HAFT", 67, 67, All),
    field("TTB0", 119, 68, Address(4)),
    field("reserved[121:120]", 121, 120, Ends),
    field("PnCH", 122, 122, All),
    field("EPAN", 123, 123, All),
    field("HWU0", 127, 124, Ends),
    field("NSCFG1", 128, 128, All),
    field("HAD1", 129, 129, All),
    field("E0PD1", 130, 130, All),
    field("AIE", 131, 131, All),
    field("TTB1", 183, 132, Address(4)),
    field("reserved[185:184]", 185, 184, Ends),
    field("DS", 186, 186, All),
    field("PIE", 187, 187, All),
    field("HWU1", 191, 188, Ends),
    field("MAIR", 255, 192, Ends),
    field("AMAIR", 319, 256, Ends),
    field("implementation[351:320]", 351, 320, Ends),
    field("PARTID", 367, 352, Ends),
    field("word5[63:48]", 383, 368, Ends),
    field("word6", 447, 384, Ends),
    field("word7", 511, 448, Ends),
];

pub(crate) fn fields_are_sorted_disjoint_and_within_one_word() {
    for table in [STE, CD] {
        for pair in table.windows(2) {
            assert!(pair[0].hi < pair[1].lo, "{} and {}", pair[0].name, pair[1].name);
        }
        for field in table {
            assert_eq!(field.hi / 64, field.lo / 64, "{}", field.name);
        }
        assert_eq!(table.last().map(|field| field.hi), Some(511));
    }
}

pub(crate) fn what_is_set_is_got() {
    for field in STE.iter().chain(CD) {
        let mut words = [0; 8];
        field.set(&mut words, u64::MAX);
        assert_eq!(field.get(&words), field.mask(), "{}", field.name);
        let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
        assert_eq!(ones as usize, field.hi - field.lo + 1, "{}", field.name);
        field.set(&mut words, 0);
        assert_eq!(words, [0; 8], "{}", field.name);
    }
}
