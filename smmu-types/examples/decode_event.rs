//! Decode event records: the kind, the getters that a fault handler uses, and every field by name.
//!
//!     cargo run -p smmu-types --features fields --example decode_event

use smmu_types::{EventKind, EventRecord, fields};

/// Records of an event queue, 32 bytes each, as four little-endian words.
const RECORDS: [[u64; 4]; 3] = [
    // A write to an address without a translation.
    [0x0000_0008_0000_0010, 0x0000_0200_0000_0000, 0x1_0000, 0],
    // The SMMU could not read a CD.
    [0x0000_0008_0000_0009, 0, 0, 0x4000_0040],
    // Event numbers from 0xe0 belong to the implementation.
    [0x0000_0008_0000_00e3, 0, 0, 0],
];

fn main() {
    for words in RECORDS {
        let record = EventRecord(words);
        // Decoding cannot fail: an unknown number is kept, and prints as a number.
        println!("{record}");

        // A handler asks the typed getters. They return `None` for a kind without the field.
        match record.kind() {
            EventKind::F_TRANSLATION => {
                println!(
                    "  map {} for stream {}, or stop the device",
                    record.address(),
                    record.stream()
                );
            }
            EventKind::F_CD_FETCH | EventKind::F_STE_FETCH => {
                if let Some(address) = record.fetch_address() {
                    println!("  the SMMU cannot read memory at {address}");
                }
            }
            kind if kind.is_implementation_defined() => println!("  ask the vendor"),
            _ => println!("  see section 7.3 of IHI 0070"),
        }

        // A decoder prints all fields of the kind. Fields of value 0 are left out here.
        let layout = fields::event(record.kind());
        println!("  {} (section {})", layout.name(), layout.section());
        for field in layout.split(&record.0).filter(|field| field.value != 0) {
            let (hi, lo) = (field.field.hi(), field.field.lo());
            println!("    {} {hi}:{lo} = {field}: {}", field.field.name(), field.field.text());
        }
    }
}
