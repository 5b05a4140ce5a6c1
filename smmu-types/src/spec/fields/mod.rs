//! The fields of every structure, one module each: a [`Key`](crate::layout::Key) for every field,
//! and the table of them, `LAYOUT`.

pub mod commands;
pub mod events;
mod pri;
mod registers;
mod tables;

#[cfg(feature = "fields")]
pub use commands::command;
pub use commands::{any_command, opcode_name};
#[cfg(feature = "fields")]
pub use events::event;
pub use pri::*;
pub use registers::*;
pub use tables::*;

#[cfg(feature = "fields")]
use crate::layout::Layout;

/// Every table. Feature `fields`.
#[cfg(feature = "fields")]
pub fn all() -> impl Iterator<Item = &'static Layout> {
    let in_memory = [tables::ALL, commands::ALL, events::ALL, pri::ALL];
    in_memory.into_iter().flatten().copied().chain(registers::layouts())
}

#[cfg(all(test, feature = "fields"))]
mod tests {
    extern crate std;

    use super::*;
    use crate::layout::Meaning;
    use std::collections::HashSet;

    #[test]
    fn tables_are_sorted_disjoint_and_within_their_structure() {
        for layout in all() {
            let name = layout.name();
            assert!(matches!(layout.bits(), 32 | 64 | 128 | 256 | 512), "{name}");
            for pair in layout.fields().windows(2) {
                let (a, b) = (pair[0].name(), pair[1].name());
                assert!(pair[0].hi() < pair[1].lo(), "{name}: {a} and {b}");
            }
            let Some(last) = layout.fields().last() else {
                assert!(matches!(name, "PIDR5" | "PIDR6" | "PIDR7"), "{name} has no fields");
                continue;
            };
            assert!(last.hi() < layout.bits(), "{name}: {}", last.name());
        }
    }

    #[test]
    fn names_are_unique_and_values_fit() {
        for layout in all() {
            let mut names = HashSet::new();
            for field in layout.fields() {
                let place = std::format!("{}.{}", layout.name(), field.name());
                assert!(names.insert(field.name().to_ascii_lowercase()), "{place} twice");
                assert!(field.text().ends_with('.'), "{place}: {:?}", field.text());
                match field.meaning() {
                    Meaning::Flag { .. } => assert_eq!(field.hi(), field.lo(), "{place}"),
                    Meaning::Choice(choices) => {
                        for pair in choices.windows(2) {
                            assert!(pair[0].value < pair[1].value, "{place}");
                        }
                        for choice in choices {
                            assert!(choice.value <= field.max(), "{place}: {}", choice.value);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
