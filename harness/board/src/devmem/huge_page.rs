//! A huge page: memory that the process owns, in one piece of physical memory.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::system_files::SystemFiles;

const FOLDER: &str = "/sys/kernel/mm/hugepages";
/// `/proc/self/pagemap`: the page is in RAM.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// Why there is no memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HugePageError {
    /// No huge page is free.
    #[error(
        "no huge page of {need} bytes or more is free; reserve one: echo 1 > {FOLDER}/{size}/nr_hugepages"
    )]
    NoneFree {
        /// The bytes that are needed.
        need: u64,
        /// The directory of the size to reserve.
        size: String,
    },
    /// The kernel has no huge pages of such a size.
    #[error("the kernel has no huge pages of {need} bytes or more ({FOLDER}); enable HUGETLBFS")]
    NoSize {
        /// The bytes that are needed.
        need: u64,
    },
    /// The kernel does not tell where the page is.
    #[error("/proc/self/pagemap does not tell where a page is; run as root with CAP_SYS_ADMIN")]
    Hidden,
    /// The page is not where it should be.
    #[error("a huge page is in pieces: page {page} of it is elsewhere")]
    InPieces {
        /// The number of the first page that does not follow the one before.
        page: usize,
    },
}

/// The size of the smallest huge page with at least `need` bytes of which one is free.
///
/// # Errors
///
/// There is none.
pub fn free_size(need: u64, files: &dyn SystemFiles) -> Result<u64, HugePageError> {
    let names = files.list(FOLDER).unwrap_or_default();
    let mut sizes: Vec<(u64, String)> = names
        .into_iter()
        .filter_map(|name| {
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some((kib.checked_mul(1024)?, name))
        })
        .filter(|(bytes, _)| *bytes >= need && bytes.is_power_of_two())
        .collect();
    sizes.sort_unstable();
    let smallest = sizes.first().map(|(_, name)| name.clone());
    let smallest = smallest.ok_or(HugePageError::NoSize { need })?;
    let is_free = |name: &str| {
        let free = files.text(&format!("{FOLDER}/{name}/free_hugepages"));
        free.trim().parse::<u64>().is_ok_and(|free| free > 0)
    };
    let found = sizes.iter().find(|(_, name)| is_free(name));
    found.map(|(bytes, _)| *bytes).ok_or(HugePageError::NoneFree { need, size: smallest })
}

/// The physical address of the first byte, by the entries of `/proc/self/pagemap` for each page.
///
/// # Errors
///
/// The kernel hides it, or the pages do not lie one behind the other.
pub fn address(entries: &[u64], page_bytes: u64) -> Result<u64, HugePageError> {
    let frame = |entry: &u64| {
        let frame = entry & FRAME;
        (entry & PRESENT != 0 && frame != 0).then_some(frame).ok_or(HugePageError::Hidden)
    };
    let first = frame(entries.first().unwrap_or(&0))?;
    for (page, entry) in entries.iter().enumerate() {
        if frame(entry)? != first + page as u64 {
            return Err(HugePageError::InPieces { page });
        }
    }
    first.checked_mul(page_bytes).ok_or(HugePageError::Hidden)
}

#[cfg(test)]
mod tests {
    use super::super::test_system::TestSystem;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn system(free: &[(u64, u64)]) -> TestSystem {
        free.iter().fold(TestSystem::default(), |system, (kib, free)| {
            system.file(&format!("{FOLDER}/hugepages-{kib}kB/free_hugepages"), format!("{free}\n"))
        })
    }

    #[test]
    fn the_smallest_free_page_is_taken() {
        let sizes = system(&[(64, 9), (2048, 9), (1 << 20, 1), (32 << 10, 1)]);
        assert_eq!(free_size(32 * MIB, &sizes), Ok(32 * MIB));
        let sizes = system(&[(2048, 9), (1 << 20, 1), (32 << 10, 0)]);
        assert_eq!(free_size(32 * MIB, &sizes), Ok(1024 * MIB));
        let none = system(&[(2048, 9), (1 << 20, 0), (32 << 10, 0)]);
        let size = "hugepages-32768kB".into();
        assert_eq!(
            free_size(32 * MIB, &none),
            Err(HugePageError::NoneFree { need: 32 * MIB, size })
        );
        let none = Err(HugePageError::NoSize { need: 32 * MIB });
        assert_eq!(free_size(32 * MIB, &system(&[(2048, 9)])), none);
        assert_eq!(free_size(32 * MIB, &TestSystem::default()), none);
    }

    #[test]
    fn a_page_is_where_its_pages_are() {
        // Soft-dirty and exclusive bits are no part of the frame.
        let entry = |frame: u64| PRESENT | 1 << 61 | 1 << 55 | frame;
        let whole: Vec<u64> = (0..8).map(|n| entry(0x4_0000 + n)).collect();
        assert_eq!(address(&whole, 4096), Ok(0x4000_0000));
        let mut pieces = whole.clone();
        pieces[5] = entry(0x9_0000);
        assert_eq!(address(&pieces, 4096), Err(HugePageError::InPieces { page: 5 }));
        for hidden in [0, PRESENT, 0x4_0000] {
            assert_eq!(address(&[hidden], 4096), Err(HugePageError::Hidden), "{hidden:#x}");
        }
        assert_eq!(address(&[], 4096), Err(HugePageError::Hidden));
    }
}
