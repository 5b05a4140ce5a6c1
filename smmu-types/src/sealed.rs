//! One supertrait that closes the crate's traits: no other crate may implement them.

use crate::queue::{Cmdq, Eventq, Priq};
use crate::regs::{Ro, Rw};
use crate::{Iova, Ipa};

/// Public in a private module, so that a bound can name it and no other crate can.
pub trait Sealed {}

// `regs::Width` and `regs::Rights`.
impl Sealed for u32 {}
impl Sealed for u64 {}
impl Sealed for Ro {}
impl Sealed for Rw {}
// `queue::QueueKind`.
impl Sealed for Cmdq {}
impl Sealed for Eventq {}
impl Sealed for Priq {}
// `range::SpanAddress`.
impl Sealed for Iova {}
impl Sealed for Ipa {}
