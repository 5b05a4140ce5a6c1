//! A Linux system for one program: Debian's arm64 kernel, and a first root file system.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::kernel;
use super::kilobytes::Kilobytes;
use super::{elf, initramfs};
use crate::error::Error;
use crate::workspace::Workspace;

/// `panic=-1` and QEMU's `-no-reboot` end a run whose `/init` fails. The huge page is for the program.
pub(crate) const COMMAND_LINE: &str = "console=ttyAMA0 quiet panic=-1 hugepagesz=32M hugepages=1";

/// Keeps the kernel's SMMU driver off.
pub(crate) const DRIVER_OFF: &str = "initcall_blacklist=arm_smmu_driver_init";

/// `/init` prints this and the exit status of the program.
pub(crate) const STATUS_LINE: &str = "smmu-init: program ended with status";

/// The tests of the image `linux` inside of Linux, from the workspace's root.
const CHECK: &str = "harness/board/linux-check.sh";

/// `/init`: runs the program, or its tests if the first argument is `check`. It prints the status,
/// and switches the machine off.
fn init() -> String {
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t devtmpfs devtmpfs /dev\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t sysfs sysfs /sys\n\
         if [ \"$1\" = check ]; then\n\
         /bin/busybox sh /bin/check \"$2\"\n\
         else\n\
         /bin/program \"$@\"\n\
         fi\n\
         echo \"{STATUS_LINE} $?\"\n\
         exec /bin/busybox poweroff -f\n"
    )
}

/// The files with which QEMU or a boot loader starts Linux.
#[derive(Debug)]
pub(crate) struct LinuxSystem {
    /// The folder of both files.
    pub(crate) folder: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    initramfs_bytes: u64,
    /// Package and version of the kernel.
    package: String,
}

impl fmt::Display for LinuxSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, initramfs, initramfs_bytes, package, .. } = self;
        writeln!(f, "Linux: {package}\n  kernel     {}", kernel.display())?;
        write!(f, "  initramfs  {} ({})", initramfs.display(), Kilobytes(*initramfs_bytes))?;
        write!(f, "\n  options    {COMMAND_LINE} {DRIVER_OFF}")
    }
}

/// Fetches the kernel unless it is there, and packs a root file system around the static `program`.
pub(crate) fn make(workspace: &Workspace, program: &Path) -> Result<LinuxSystem, Error> {
    let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    let content = read(program)?;
    elf::read(&content).map_err(|why| Error::BrokenImage { path: program.to_owned(), why })?;
    let fetched = kernel::provide(&workspace.board_folder())?;
    let (init, check) = (init(), read(&workspace.root.join(CHECK))?);
    let archive = initramfs::archive(&[
        ("init", init.as_bytes()),
        ("bin/busybox", &read(&fetched.busybox)?),
        ("bin/check", &check),
        ("bin/program", &content),
    ]);
    let initramfs = fetched.folder.join("initramfs.gz");
    // A run beside this one sees the old file or the new one, never half of one.
    let aside = fetched.folder.join(format!("initramfs-{}", std::process::id()));
    let archive = archive.map_err(Error::io("pack", &initramfs))?;
    fs::write(&aside, &archive).map_err(Error::io("write", &aside))?;
    fs::rename(&aside, &initramfs).map_err(Error::io("write", &initramfs))?;
    Ok(LinuxSystem {
        folder: fetched.folder,
        kernel: fetched.kernel,
        initramfs,
        initramfs_bytes: archive.len() as u64,
        package: fetched.package,
    })
}
