//! What the tests that decide at run time have in common.

/// Whether QEMU is left out on purpose. What needs it is then ignored, never passed.
pub(crate) fn qemu_is_left_out() -> bool {
    std::env::var_os("SMMU_NO_QEMU").is_some_and(|value| value == "1")
}
