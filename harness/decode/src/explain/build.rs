//! Builds a configuration: a legal one as the base, and fields to change in it.

use smmu_types::layout::{Field, Layout};
use smmu_types::{
    Asid, AtsMode, Cacheability, Capabilities, Cd, FieldError, Granule, OutputSize, PhysAddr,
    Shareability, ShareabilityOverride, Stage1Config, Stage2Config, Ste, StreamWorld,
    SubstreamDefault, TableConfig, Vmid, fields,
};

use crate::nearest::nearest;
use crate::words::binary;

/// The base of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseConfig {
    /// Transactions are aborted.
    Abort,
    /// Transactions pass untranslated.
    Bypass,
    /// Stage 1 translates.
    Stage1,
    /// Stage 2 translates.
    Stage2,
    /// Both stages translate.
    Nested,
}

impl BaseConfig {
    /// All bases.
    pub const ALL: [BaseConfig; 5] = [
        BaseConfig::Abort,
        BaseConfig::Bypass,
        BaseConfig::Stage1,
        BaseConfig::Stage2,
        BaseConfig::Nested,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BaseConfig::Abort => "abort",
            BaseConfig::Bypass => "bypass",
            BaseConfig::Stage1 => "stage1",
            BaseConfig::Stage2 => "stage2",
            BaseConfig::Nested => "nested",
        }
    }

    /// What it does, in one line.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            BaseConfig::Abort => "Transactions are aborted",
            BaseConfig::Bypass => "Transactions pass untranslated",
            BaseConfig::Stage1 => "Stage 1 translates",
            BaseConfig::Stage2 => "Stage 2 translates",
            BaseConfig::Nested => "Both stages translate",
        }
    }
}

/// Why a configuration cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Not `FIELD=VALUE`.
    #[error("\"{0}\" is not FIELD=VALUE, such as S1CDMax=4 or CD.T0SZ=0x10")]
    Syntax(String),
    /// No structure has this field.
    #[error(
        "neither an STE nor a CD has a field \"{0}\"; names are the architecture's, such as S1CDMax or CD.T0SZ"
    )]
    Unknown(String),
    /// The name is nearly a field.
    #[error("neither an STE nor a CD has a field \"{name}\"; did you mean {near}?")]
    Misspelt {
        /// The name.
        name: String,
        /// The field nearest to it.
        near: &'static str,
    },
    /// An STE and a CD both have a field of this name.
    #[error("an STE and a CD both have a field \"{0}\"; say STE.{0} or CD.{0}")]
    Ambiguous(String),
    /// The value is no number.
    #[error(
        "{field}: \"{value}\" is not a number; give it in decimal, in hexadecimal with 0x, or in binary with 0b"
    )]
    Number {
        /// The field.
        field: &'static str,
        /// The text.
        value: String,
    },
    /// The value does not fit the field.
    #[error(transparent)]
    Layout(#[from] FieldError),
    /// The SMMU has no granule, or a reserved output size.
    #[error("these ID registers allow no configuration of stage {stage}: {why}")]
    Impossible {
        /// The stage.
        stage: u8,
        /// What is missing.
        why: &'static str,
    },
}

/// The address of the example tables: in the lowest 4 GiB, which every output size reaches.
const CONTEXT: PhysAddr = PhysAddr(0x4000_0000);
const TABLE1: PhysAddr = PhysAddr(0x4010_0000);
const TABLE2: PhysAddr = PhysAddr(0x4020_0000);

/// A legal configuration for an SMMU with these capabilities.
///
/// # Errors
///
/// The SMMU has no granule, or a reserved output size.
pub fn base(base: BaseConfig, caps: &Capabilities) -> Result<(Ste, Option<Cd>), BuildError> {
    // The field is there only where attributes can be replaced.
    let shareability = match caps.attribute_override {
        true => ShareabilityOverride::Incoming,
        false => ShareabilityOverride::NonShareable,
    };
    Ok(match base {
        BaseConfig::Abort => (Ste::ABORT, None),
        BaseConfig::Bypass => (Ste::bypass(shareability), None),
        BaseConfig::Stage1 => {
            let ste = Ste::stage1(contexts(), AtsMode::Off, shareability)?;
            (ste, Some(Cd::stage1(stage1(caps)?)?))
        }
        BaseConfig::Stage2 => (Ste::stage2(stage2(caps)?, AtsMode::Off, shareability)?, None),
        BaseConfig::Nested => {
            let one = Ste::stage1(contexts(), AtsMode::Off, shareability)?;
            let two = Ste::stage2(stage2(caps)?, AtsMode::Off, shareability)?;
            let words = std::array::from_fn(|n| one.0[n] | two.0[n]);
            let ste = Ste(words).with(fields::ste::CONFIG, 7)?;
            (ste, Some(Cd::stage1(stage1(caps)?)?))
        }
    })
}

fn contexts() -> TableConfig {
    TableConfig {
        format: 0,
        context: CONTEXT,
        cd_max: 0,
        substream_default: SubstreamDefault::Terminate,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        stall_disable: false,
        world: StreamWorld::El1,
    }
}

fn sizes(stage: u8, caps: &Capabilities) -> Result<(Granule, OutputSize), BuildError> {
    let impossible = |why| BuildError::Impossible { stage, why };
    let granule = [Granule::K4, Granule::K16, Granule::K64]
        .into_iter()
        .find(|granule| caps.granules.contains(*granule))
        .ok_or_else(|| impossible("IDR5 has no granule"))?;
    let output = caps.output_size.ok_or_else(|| impossible("IDR5.OAS is reserved"))?;
    Ok((granule, output))
}

fn stage1(caps: &Capabilities) -> Result<Stage1Config, BuildError> {
    let (granule, output_size) = sizes(1, caps)?;
    Ok(Stage1Config {
        asid: Asid(1),
        t0sz: 25,
        granule,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        output_size,
        table: TABLE1,
        mair: 0xff,
        stall: caps.stall_model == smmu_types::StallModel::Forced,
    })
}

fn stage2(caps: &Capabilities) -> Result<Stage2Config, BuildError> {
    let (granule, output_size) = sizes(2, caps)?;
    Ok(Stage2Config {
        vmid: Vmid(1),
        t0sz: 32,
        // For 32 bits of input: level 1 with pages of 4 KiB, level 2 with larger ones.
        start_level: 1,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        granule,
        output_size,
        table: TABLE2,
        forced_write_back: false,
        protected_walk: false,
        stall: caps.stall_model == smmu_types::StallModel::Forced,
        record: true,
    })
}

/// A field to change, and its new value.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    field: &'static Field,
    of_cd: bool,
    value: u64,
}

impl Setting {
    /// Parses `FIELD=VALUE`. FIELD may begin with `STE.` or `CD.`.
    ///
    /// # Errors
    ///
    /// No structure has the field, or the value is no number.
    pub fn parse(text: &str) -> Result<Setting, BuildError> {
        let syntax = || BuildError::Syntax(text.chars().take(60).collect());
        let (name, value) = text.split_once('=').ok_or_else(syntax)?;
        let (name, value) = (name.trim(), value.trim());
        let (structure, field) = match name.split_once('.') {
            Some((structure, field)) => (Some(structure.to_ascii_lowercase()), field),
            None => (None, name),
        };
        let wanted = |of: &str| structure.as_deref().is_none_or(|structure| structure == of);
        let find = |of: &str, layout: &'static Layout| layout.field(field).filter(|_| wanted(of));
        let found = (find("ste", &fields::ste::LAYOUT), find("cd", &fields::cd::LAYOUT));
        let (field, of_cd) = match found {
            (Some(field), None) => (field, false),
            (None, Some(field)) => (field, true),
            (Some(_), Some(_)) => return Err(BuildError::Ambiguous(field.to_owned())),
            (None, None) => {
                let both = [("ste", &fields::ste::LAYOUT), ("cd", &fields::cd::LAYOUT)];
                let layouts = both.into_iter().filter(|(of, _)| wanted(of));
                let known = layouts.flat_map(|(_, layout)| layout.fields()).map(Field::name);
                let name: String = name.chars().take(60).collect();
                return Err(match nearest(field, known) {
                    Some(near) => BuildError::Misspelt { name, near },
                    None => BuildError::Unknown(name),
                });
            }
        };
        let digits = value.replace('_', "");
        let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => binary(&digits).map_or_else(|| digits.parse(), Ok),
        };
        let value = number.map_err(|_| BuildError::Number {
            field: field.name(),
            value: value.chars().take(60).collect(),
        })?;
        Ok(Setting { field, of_cd, value })
    }

    /// Whether the field belongs to the CD.
    #[must_use]
    pub const fn is_of_cd(self) -> bool {
        self.of_cd
    }

    /// Changes the field.
    ///
    /// # Errors
    ///
    /// The value does not fit the field.
    pub fn apply(self, ste: &mut Ste, cd: &mut Option<Cd>) -> Result<(), BuildError> {
        let placed = self.field.place(self.value)?;
        let words = if self.of_cd { &mut cd.get_or_insert(Cd::INVALID).0 } else { &mut ste.0 };
        if let Some(word) = words.get_mut(self.field.word()) {
            *word = *word & !self.field.mask() | placed;
        }
        Ok(())
    }
}
