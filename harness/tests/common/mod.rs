//! What the tests that decide at run time have in common.
#![allow(dead_code, reason = "each of them uses a part")]

pub(crate) mod random;

use libtest_mimic::Trial;

/// A test that fails by panicking.
pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Whether QEMU is left out on purpose. What needs it is then ignored, never passed.
pub(crate) fn qemu_is_left_out() -> bool {
    std::env::var_os("SMMU_NO_QEMU").is_some_and(|value| value == "1")
}
