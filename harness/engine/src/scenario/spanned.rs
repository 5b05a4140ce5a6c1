//! A value, and where in the file it stands.

use core::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value, and the bytes of the file that it stands at.
#[derive(Clone, Debug, Default)]
pub struct Spanned<T> {
    span: Range<usize>,
    value: T,
}

impl<T> Spanned<T> {
    /// A value that stands at these bytes.
    pub fn new(span: Range<usize>, value: T) -> Self {
        Spanned { span, value }
    }

    /// A value that a program states: it stands nowhere.
    pub fn of(value: T) -> Self {
        Spanned { span: 0..0, value }
    }

    /// The value.
    pub fn get_ref(&self) -> &T {
        &self.value
    }

    /// The bytes of the file: none, if there is no file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

/// The value alone.
impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[cfg(feature = "toml")]
        if deserializer.is_human_readable() {
            let spanned = toml::Spanned::deserialize(deserializer)?;
            return Ok(Spanned { span: spanned.span(), value: spanned.into_inner() });
        }
        T::deserialize(deserializer).map(Spanned::of)
    }
}

/// In a file it is the value alone.
#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> alloc::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
