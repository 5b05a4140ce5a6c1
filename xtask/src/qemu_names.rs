//! The names and the version of QEMU that the tasks need.

/// The first release with `iommu-testdev` and several SMMUs in one machine.
pub(crate) const OLDEST_MAJOR: u32 = 11;
pub(crate) const PROGRAM: &str = "qemu-system-aarch64";
pub(crate) const VARIABLE: &str = "SMMU_QEMU";
/// Tells the tests to skip the scenarios on QEMU.
pub(crate) const LEFT_OUT_VARIABLE: &str = "SMMU_NO_QEMU";
pub(crate) const INSTALL_HINT: &str = "\
install QEMU 11 or later yourself and set SMMU_QEMU to its path if it is not on PATH
    Debian, Ubuntu   apt-get install qemu-system-arm
    Fedora           dnf install qemu-system-aarch64
    Arch             pacman -S qemu-system-aarch64
    openSUSE         zypper install qemu-arm
    Alpine           apk add qemu-system-aarch64
    macOS            brew install qemu";

/// Folder in the target folder where the harness looks for QEMU.
pub(crate) const FOLDER: &str = "qemu";
