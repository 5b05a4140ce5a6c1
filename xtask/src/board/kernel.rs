//! Fetches Debian's kernel and busybox for arm64.
//!
//! Only two files of the packages stay: the kernel, and the static busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::apt::own_release;
use crate::aside::Aside;
use crate::error::Error;
use crate::fetch::{Apt, PlannedPackage, require_tools, write};
use crate::process::say;

const ARCHITECTURE: &str = "arm64";
/// Depends on the newest kernel.
const KERNEL: &str = "linux-image-arm64";
const BUSYBOX: &str = "busybox-static";
/// Time limit of all downloads together.
const TOTAL_LIMIT: Duration = Duration::from_secs(600);

const FOLDER: &str = "linux";
const VERSION: &str = "VERSION";
/// First line of [`VERSION`]. A change of this file's recipe needs another number.
const RECIPE: &str = "recipe 1";

/// The files that later runs use again.
#[derive(Debug)]
pub(crate) struct FetchedKernel {
    pub(crate) folder: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) busybox: PathBuf,
    /// Package and version of the kernel.
    pub(crate) package: String,
}

/// Finds the files in the folder of the boards, or fetches them.
pub(crate) fn provide(board: &Path) -> Result<FetchedKernel, Error> {
    let place = board.join(FOLDER);
    if place.exists() {
        match check(&place) {
            Ok(fetched) => return Ok(fetched),
            Err(why) => say(format_args!("not suitable: {}: {why}", place.display())),
        }
    }
    let none = |why: String| Error::NoKernel { why };
    require_tools().map_err(|why| none(format!("this system is not Debian: {why}")))?;
    let sources = own_release(ARCHITECTURE)
        .ok_or_else(|| none("apt has no source of a Debian release".to_owned()))?;
    let aside = Aside::new(&place)?;
    fill(aside.path(), &sources)?;
    check(aside.path()).map_err(none)?;
    // Whether this run or another was first, only what the folder holds now counts.
    aside.put_in_place(|place| check(place).is_ok());
    check(&place).map_err(none)
}

/// Checks that the files have the sizes that were written down.
fn check(folder: &Path) -> Result<FetchedKernel, String> {
    let text = fs::read_to_string(folder.join(VERSION)).unwrap_or_default();
    let mut lines = text.lines();
    if lines.next() != Some(RECIPE) {
        return Err(format!("it is not of this version of xtask ({RECIPE})"));
    }
    let package = lines.next().unwrap_or_default().to_owned();
    let mut file = |name: &str| {
        let path = folder.join(name);
        let size = fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or_default();
        let wanted = format!("{name} {size}");
        if lines.next() == Some(&wanted) {
            Ok(path)
        } else {
            Err(format!("{name} has another size than when it was unpacked ({size} bytes)"))
        }
    };
    let (kernel, busybox) = (file("vmlinuz")?, file("busybox")?);
    Ok(FetchedKernel { folder: folder.to_owned(), kernel, busybox, package })
}

fn fill(folder: &Path, sources: &str) -> Result<(), Error> {
    say(format_args!("looking for a kernel in this machine's Debian release"));
    let deadline = Instant::now() + TOTAL_LIMIT;
    let apt = Apt::new(folder.join("apt"), ARCHITECTURE, sources, None, deadline)?;
    apt.update()?;
    let missing = |name: &str| Error::NoKernel { why: format!("no package {name}:{ARCHITECTURE}") };
    let kernel = apt
        .dependencies(KERNEL)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .ok_or_else(|| missing(KERNEL))?;
    let mut plan = Vec::new();
    for name in [&kernel, BUSYBOX] {
        let version = apt.candidate(name)?.ok_or_else(|| missing(name))?;
        plan.push(PlannedPackage { name: name.to_owned(), version });
    }
    say(format_args!("downloading {kernel} {} and {BUSYBOX}", plan[0].version));
    apt.download(&plan)?;
    let root = folder.join("root");
    apt.unpack(&root)?;
    apt.remove()?;
    let mut note = format!("{RECIPE}\n{kernel} {}\n", plan[0].version);
    let vmlinuz = format!("boot/vmlinuz-{}", kernel.trim_start_matches("linux-image-"));
    for (from, name) in [(vmlinuz.as_str(), "vmlinuz"), ("bin/busybox", "busybox")] {
        // Newer packages have all programs below `usr`.
        let paths = [root.join(from), root.join("usr").join(from)];
        let from = paths.iter().find(|path| path.is_file()).unwrap_or(&paths[0]);
        let size = fs::copy(from, folder.join(name)).map_err(Error::io("copy", from))?;
        note.push_str(&format!("{name} {size}\n"));
    }
    fs::remove_dir_all(&root).map_err(Error::io("remove", &root))?;
    write(&folder.join(VERSION), &note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_or_missing_is_noticed() {
        let place = std::env::temp_dir().join(format!("kernel-{}", std::process::id()));
        let folder = Aside::new(&place).unwrap();
        let put = |name: &str, text: &str| write(&folder.path().join(name), text).unwrap();
        put("vmlinuz", "kernel");
        put("busybox", "box");
        put(VERSION, &format!("{RECIPE}\nlinux-image 6.1\nvmlinuz 6\nbusybox 3\n"));
        let found = check(folder.path()).unwrap();
        assert_eq!(found.package, "linux-image 6.1");
        assert_eq!(found.kernel, folder.path().join("vmlinuz"));
        put("busybox", "bo");
        assert!(check(folder.path()).unwrap_err().contains("busybox"));
        put("busybox", "box");
        fs::remove_file(folder.path().join("vmlinuz")).unwrap();
        assert!(check(folder.path()).unwrap_err().contains("vmlinuz"));
        put(VERSION, "recipe 0\n");
        assert!(check(folder.path()).unwrap_err().contains("not of this version"));
    }
}
