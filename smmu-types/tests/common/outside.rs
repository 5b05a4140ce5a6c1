//! How the tests with literal numbers write down a structure.

/// Fields as an outside source places them: a name and two numbers, which each file explains.
pub(crate) type Positions = &'static [(&'static str, u16, u16)];
