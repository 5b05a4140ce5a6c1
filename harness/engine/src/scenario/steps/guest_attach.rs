//! `guest_attach`: a guest writes an STE, and sends `CFGI_STE`.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::prelude::*;
use crate::scenario::names::{Declared, SpannedName, Wrong};
use crate::scenario::spanned::Spanned;
use crate::scenario::step_spec::StepSpec;

/// See [`Step::GuestAttach`](crate::scenario::Step::GuestAttach).
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GuestAttach {
    /// A device of a guest.
    pub device: SpannedName,
    /// A table of the guest, `bypass` or `blocked`.
    pub to: Option<SpannedName>,
    /// Instead of `to`: the eight words of the STE.
    pub ste: Option<Spanned<[u64; 8]>>,
    /// The host refuses the STE, and the device is blocked. The beginning of the reason.
    pub refused: Option<String>,
}

impl StepSpec for GuestAttach {
    fn check(&self, span: Range<usize>, names: &Declared) -> Result<(), Wrong> {
        names.guest_device(&self.device)?;
        if self.to.is_some() == self.ste.is_some() {
            return Err((span, "a guest_attach needs either `to` or `ste`".into()));
        }
        if self.refused.as_ref().is_some_and(String::is_empty) {
            return Err((span, "`refused` is the beginning of the reason, and not empty".into()));
        }
        match &self.to {
            Some(to) if !["bypass", "blocked"].contains(&to.get_ref().as_str()) => {
                names.guest_table(to)
            }
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        let device = self.device.get_ref();
        match (&self.to, &self.ste) {
            (Some(to), _) => format!("the guest attaches {device} to {}", to.get_ref()),
            (None, Some(ste)) => {
                let words = ste.get_ref().map(|word| format!("{word:#x}")).join(" ");
                format!("the guest writes the STE of {device}: {words}")
            }
            (None, None) => String::new(),
        }
    }
}
