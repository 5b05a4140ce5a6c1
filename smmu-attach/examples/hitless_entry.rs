//! STEs rewritten under an SMMU that may read them, with each store and each sync printed:
//! `cargo run -p smmu-attach --example hitless_entry`.

use std::cell::RefCell;

use smmu_attach::entry::{EntrySlot, write};
use smmu_attach::smmu_types::*;
use smmu_types::fake::heap_pool;
use smmu_types::seam::{DmaLayout, DmaMemory};

const WORDS: usize = Ste::BYTES / 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bypass = Ste::bypass(ShareabilityOverride::Incoming);
    let (first, second) = (stage2(1, 0x8000_0000)?, stage2(2, 0x9000_0000)?);
    rewrite("bypass to stage 2: hitless", bypass, first)?;
    rewrite("the same stage 2 again: no store", first, first)?;
    rewrite("another VMID and another root: two words, so by way of invalid", first, second)?;
    rewrite("stage 2 to abort: hitless", second, Ste::ABORT)
}

fn stage2(vmid: u16, root: u64) -> Result<Ste, FieldError> {
    let config = Stage2Config {
        vmid: Vmid(vmid),
        t0sz: 25,
        start_level: 1,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        granule: Granule::K4,
        output_size: OutputSize::Bits40,
        table: PhysAddr(root),
        forced_write_back: false,
        protected_walk: true,
        stall: false,
        record: true,
    };
    Ste::stage2(config, AtsMode::Off, ShareabilityOverride::Incoming)
}

fn rewrite(what: &str, old: Ste, new: Ste) -> Result<(), Box<dyn std::error::Error>> {
    println!("{what}");
    let layout = DmaLayout::naturally_aligned(Ste::BYTES as u64).ok_or("layout")?;
    let block = heap_pool(0x1000).allocate(layout)?;
    let slot = EntrySlot::new(&block, 0).ok_or("the block is too short")?;
    write(&slot, &old, || Ok::<_, std::convert::Infallible>(()))?;

    let last = RefCell::new(old.0);
    let show = |words: [u64; WORDS]| {
        for (n, (was, is)) in last.borrow().iter().zip(words).enumerate() {
            if *was != is {
                println!("    store word {n}: {was:#018x} -> {is:#018x}");
            }
        }
        *last.borrow_mut() = words;
    };
    // On an SMMU the closure sends CFGI_STE and waits for its CMD_SYNC.
    let syncs = write(&slot, &new, || {
        let now: Ste = slot.read();
        show(now.0);
        println!("    sync: the SMMU finds {}", kind(&now));
        Ok::<_, std::convert::Infallible>(())
    })?;
    println!("    {syncs} syncs");
    Ok(())
}

fn kind(ste: &Ste) -> &'static str {
    match ste.decode() {
        SteConfig::Invalid => "an invalid entry",
        SteConfig::Abort => "abort",
        SteConfig::Bypass => "bypass",
        SteConfig::Stage1(_) => "stage 1",
        SteConfig::Stage2(_) => "stage 2",
        _ => "something else",
    }
}
