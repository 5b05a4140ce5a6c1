//! ID registers of which some may be unknown, and their text.

use smmu_types::{IdRegisters, fields};

use crate::nearest::nearest;
use crate::words::binary;

/// ID registers of which some may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownIds {
    /// The values; 0 for an unknown register.
    pub values: IdRegisters,
    /// One bit for each of [`NAMES`].
    known: u16,
}

impl KnownIds {
    /// Registers that are all known.
    #[must_use]
    pub const fn all(values: IdRegisters) -> Self {
        KnownIds { values, known: u16::MAX }
    }

    /// Whether the register of this name is known.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        let at = NAMES.iter().position(|known| *known == name);
        at.is_some_and(|at| self.known >> at & 1 != 0)
    }

    /// The unknown registers among those by which a configuration is judged.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        ["IDR0", "IDR1", "IDR3", "IDR5", "AIDR"].into_iter().filter(|name| !self.is_known(name))
    }
}

/// Why a text does not give ID registers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdsError {
    /// The name is no ID register.
    #[error(
        "\"{0}\" is no ID register; give names and values, such as IDR0=0x0d44101b,IDR1=0x02730010,IDR3=0x1414,IDR5=0x74"
    )]
    Name(String),
    /// The name is nearly an ID register.
    #[error("\"{name}\" is no ID register; did you mean {near}?")]
    Misspelt {
        /// The name.
        name: String,
        /// The ID register nearest to it.
        near: &'static str,
    },
    /// The name has no value.
    #[error("{0} has no value; give it as {0}=0x...")]
    Missing(&'static str),
    /// The value is no number of 32 bits.
    #[error("{name}: \"{value}\" is not a hexadecimal number of 32 bits")]
    Value {
        /// The register.
        name: &'static str,
        /// The text.
        value: String,
    },
    /// The value has the prefix of a binary number.
    #[error(
        "{name}: \"{value}\" looks like a binary number; values are hexadecimal: give it as {meant:#x}, or as 0x{value} if these are its digits"
    )]
    Binary {
        /// The register.
        name: &'static str,
        /// The text.
        value: String,
        /// The value of the binary number.
        meant: u64,
    },
    /// The text has the register twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
}

const NAMES: [&str; 9] = ["IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IDR6", "IIDR", "AIDR"];

/// The place of a register.
pub(crate) fn place<'i>(
    ids: &'i mut IdRegisters,
    name: &str,
) -> Option<(&'static str, &'i mut u32)> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SMMU_").unwrap_or(&name);
    let known = NAMES.into_iter().find(|known| *known == name)?;
    let value = match known {
        "IDR0" => &mut ids.idr0,
        "IDR1" => &mut ids.idr1,
        "IDR2" => &mut ids.idr2,
        "IDR3" => &mut ids.idr3,
        "IDR4" => &mut ids.idr4,
        "IDR5" => &mut ids.idr5,
        "IDR6" => &mut ids.idr6,
        "IIDR" => &mut ids.iidr,
        _ => &mut ids.aidr,
    };
    Some((known, value))
}

/// The error for a name that is no ID register.
fn unknown(token: &str) -> IdsError {
    let name: String = token.chars().take(40).collect();
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SMMU_").unwrap_or(&upper);
    // Another register, or an ID register of another number, is no typo.
    let number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    let other =
        fields::register_by_name(bare).is_some() || bare.strip_prefix("IDR").is_some_and(number);
    match nearest(bare, NAMES.into_iter()).filter(|_| !other) {
        Some(near) => IdsError::Misspelt { name, near },
        None => IdsError::Name(name),
    }
}

/// Parses names and values: `IDR0=0x...,IDR1=0x...`, or with blanks or colons between them, as
/// `probe` prints them. A register that the text does not name is unknown.
///
/// # Errors
///
/// A name is no ID register, has no value or comes twice, or a value is no number.
pub fn parse(text: &str) -> Result<KnownIds, IdsError> {
    let mut ids = IdRegisters::default();
    let mut known = 0;
    let mut tokens = text
        .split(|c: char| c.is_whitespace() || ",;=:".contains(c))
        .filter(|token| !token.is_empty());
    while let Some(token) = tokens.next() {
        let Some((name, place)) = place(&mut ids, token) else {
            return Err(unknown(token));
        };
        let bit = NAMES.iter().position(|known| *known == name).map_or(0, |at| 1u16 << at);
        if known & bit != 0 {
            return Err(IdsError::Twice(name));
        }
        known |= bit;
        let value = tokens.next().ok_or(IdsError::Missing(name))?;
        if let Some(meant) = binary(value) {
            return Err(IdsError::Binary { name, value: value.chars().take(80).collect(), meant });
        }
        let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
        let digits = digits.unwrap_or(value).replace('_', "");
        *place = u32::from_str_radix(&digits, 16)
            .map_err(|_| IdsError::Value { name, value: value.chars().take(40).collect() })?;
    }
    Ok(KnownIds { values: ids, known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("IDR0=0xd44101b,IDR1=0x2730010")]
    #[case("IDR0 0x0d44101b  IDR1 0x02730010")]
    #[case("smmu_idr0: 0D44101B; SMMU_IDR1: 0x0273_0010")]
    fn reads(#[case] text: &str) {
        let want = IdRegisters { idr0: 0x0d44_101b, idr1: 0x0273_0010, ..IdRegisters::default() };
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.values, want);
        assert_eq!(parsed.missing().collect::<Vec<_>>(), ["IDR3", "IDR5", "AIDR"]);
    }

    #[rstest]
    #[case("0x0d44101b", IdsError::Name("0x0d44101b".into()))]
    #[case("CR0=1", IdsError::Name("CR0".into()))]
    #[case("IDR9=0", IdsError::Name("IDR9".into()))]
    #[case("IDRO=1", IdsError::Misspelt { name: "IDRO".into(), near: "IDR0" })]
    #[case("smmu_iddr5=1", IdsError::Misspelt { name: "smmu_iddr5".into(), near: "IDR5" })]
    #[case("IDR0=0b1000", IdsError::Binary { name: "IDR0", value: "0b1000".into(), meant: 8 })]
    #[case("IDR0=0b100010", IdsError::Binary { name: "IDR0", value: "0b100010".into(), meant: 0x22 })]
    #[case("IDR0", IdsError::Missing("IDR0"))]
    #[case("IDR0=1,IDR0=2", IdsError::Twice("IDR0"))]
    #[case("IDR5=0x100000000", IdsError::Value { name: "IDR5", value: "0x100000000".into() })]
    #[case("IDR5=high", IdsError::Value { name: "IDR5", value: "high".into() })]
    fn refuses(#[case] text: &str, #[case] error: IdsError) {
        assert_eq!(parse(text), Err(error));
    }
}
