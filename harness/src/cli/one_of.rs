//! A parser for a value that has one of several names.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Parses the name of one of `all`, and shows `text` for each in the help.
pub(super) fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    text: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let values = all.iter().map(|&one| PossibleValue::new(name(one)).help(text(one)));
    let parser = PossibleValuesParser::new(values.collect::<Vec<_>>());
    parser.try_map(move |chosen| {
        all.iter().copied().find(|&one| name(one) == chosen).ok_or("it is not one of the names")
    })
}
