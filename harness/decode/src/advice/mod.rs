//! Advice: what decoded words mean, and what to check next.

pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod table;

/// What a structure means, and what to check next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// What it means.
    pub means: String,
    /// What to check next, the likeliest first.
    pub next: Vec<String>,
}

impl Advice {
    pub(crate) fn new(means: impl Into<String>) -> Self {
        Advice { means: means.into(), next: Vec::new() }
    }

    pub(crate) fn then(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }
}
