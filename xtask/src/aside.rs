//! Folders that appear whole or not at all: filled under another name, then renamed.
//!
//! An interrupted run leaves only a folder with another name, and two runs do not disturb each
//! other.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::Error;

/// Between the final name and the number of the run.
const NEW: &str = ".new-";
/// An interrupted run left a folder that is older than this.
const STALE: Duration = Duration::from_secs(3600);

/// A folder on its way to `place`. Dropping removes it, unless it has its final name.
#[derive(Debug)]
pub(crate) struct Aside {
    path: PathBuf,
    place: PathBuf,
}

impl Aside {
    /// An empty folder beside `place`. Removes what earlier runs left there.
    pub(crate) fn new(place: &Path) -> Result<Self, Error> {
        let parent = place.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        remove_stale(parent, &with_suffix(place, NEW));
        let number = format!("{NEW}{}-{}", std::process::id(), nanoseconds());
        let path = with_suffix(place, &number);
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(Self { path, place: place.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name, unless another run was faster.
    ///
    /// `usable` judges the folder at the final name. It is asked only if one is there.
    pub(crate) fn put_in_place(self, usable: impl Fn(&Path) -> bool) -> Placed {
        for _ in 0..3 {
            // Succeeds only if the final name is free or an empty folder.
            if fs::rename(&self.path, &self.place).is_ok() {
                return Placed::Ours;
            }
            if usable(&self.place) {
                return Placed::Another;
            }
            let path = with_suffix(&self.path, "-old");
            let old = Self { path, place: PathBuf::new() };
            let _ = fs::rename(&self.place, &old.path);
        }
        Placed::Neither
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whose folder has the final name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    Ours,
    /// Another run was faster, and its folder is usable.
    Another,
    /// The folder could not be renamed.
    Neither,
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_stale(parent: &Path, prefix: &Path) {
    let prefix = prefix.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_aside = path.as_os_str().as_encoded_bytes().starts_with(prefix);
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_aside && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Distinguishes runs with the same process number, as in two containers.
fn nanoseconds() -> u32 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap_or_default().subsec_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for one test.
    struct Top(PathBuf);

    impl Top {
        fn new() -> Self {
            let name = format!("place-{}-{}", std::process::id(), nanoseconds());
            Self(std::env::temp_dir().join(name))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Top {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Places a folder over an earlier one, and returns what its file says then.
    fn placed_over(earlier: Option<&str>) -> (Placed, String) {
        let top = Top::new();
        let place = top.0.join("thing");
        let aside = Aside::new(&place).unwrap();
        fs::write(aside.path().join("file"), "usable: ours").unwrap();
        if let Some(earlier) = earlier {
            fs::create_dir(&place).unwrap();
            fs::write(place.join("file"), earlier).unwrap();
        }
        let read = |place: &Path| fs::read_to_string(place.join("file")).unwrap();
        let placed = aside.put_in_place(|place| read(place).starts_with("usable"));
        assert_eq!(top.names(), ["thing"], "only the final folder remains");
        (placed, read(&place))
    }

    #[test]
    fn the_final_name_is_taken_when_free() {
        assert_eq!(placed_over(None), (Placed::Ours, "usable: ours".into()));
    }

    #[test]
    fn another_run_that_was_first_is_respected() {
        let other = "usable: another";
        assert_eq!(placed_over(Some(other)), (Placed::Another, other.into()));
    }

    #[test]
    fn a_broken_one_is_replaced() {
        assert_eq!(placed_over(Some("broken")), (Placed::Ours, "usable: ours".into()));
    }

    #[test]
    fn an_unfinished_one_does_not_appear_and_is_removed() {
        let top = Top::new();
        let aside = Aside::new(&top.0.join("thing")).unwrap();
        fs::write(aside.path().join("half"), "").unwrap();
        assert!(!top.0.join("thing").exists());
        drop(aside);
        assert_eq!(top.names(), [""; 0]);
    }

    #[test]
    fn only_old_leftovers_of_the_same_name_are_removed() {
        let top = Top::new();
        for name in ["thing.new-1", "thing.new-2", "other.new-1", "thing"] {
            fs::create_dir_all(top.0.join(name)).unwrap();
        }
        let long_ago = SystemTime::now() - 2 * STALE;
        for name in ["thing.new-1", "other.new-1", "thing"] {
            fs::File::open(top.0.join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        remove_stale(&top.0, &top.0.join("thing.new-"));
        let mut names = top.names();
        names.sort();
        assert_eq!(names, ["other.new-1", "thing", "thing.new-2"]);
    }
}
