//! The seeds of the fuzz targets, as the fuzzer feeds them.

use std::path::Path;

use crate::checks::bytes;

/// Feeds each seed of a target, and returns how many there are.
fn replay(target: &str, feed: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        feed(&std::fs::read(file.unwrap().path()).unwrap());
        seeds += 1;
    }
    seeds
}

#[test]
fn every_seed_holds() {
    assert!(replay("entry", bytes::entry) >= 8);
    assert!(replay("batch", bytes::batch) >= 8);
    assert!(replay("event", bytes::event) >= 8);
    assert!(replay("ids", bytes::ids) >= 4);
}
