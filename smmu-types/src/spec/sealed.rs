//! One supertrait that closes the crate's traits: no other crate may implement them.

/// Public in a private module, so that a bound can name it and no other crate can.
pub trait Sealed {}
