//! From the entry to `main`: stack, zeroed memory, vectors, heap, device tree.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::slice;

use buddy_system_allocator::LockedHeap;

use crate::console::{self, say};

/// Where QEMU puts the device tree of a bare image: at the start of RAM.
const DEVICE_TREE: usize = 0x4000_0000;
const MAGIC: u32 = 0xd00d_feed;
const HEAP_BYTES: usize = 4 << 20;

#[global_allocator]
static HEAP: LockedHeap<32> = LockedHeap::empty();

global_asm!(
    ".pushsection .text.start, \"ax\"",
    ".arm",
    ".global _start",
    "_start:",
    "ldr sp, =stack_top",
    "ldr r0, =bss_start",
    "ldr r1, =bss_end",
    "mov r2, #0",
    "1:",
    "cmp r0, r1",
    "strlo r2, [r0], #4",
    "blo 1b",
    // VBAR. An exception ends the program: QEMU takes a semihosting call before the vector.
    "ldr r0, =vectors",
    "mcr p15, 0, r0, c12, c0, 0",
    "isb",
    "bl {begin}",
    ".align 5",
    "vectors:",
    ".rept 8",
    "b 2f",
    ".endr",
    // Each mode has a stack pointer of its own, and nobody has set it.
    "2:",
    "ldr sp, =stack_top",
    "b {exception}",
    ".ltorg",
    ".popsection",
    begin = sym begin,
    exception = sym exception,
);

extern "C" fn begin() -> ! {
    static mut ARENA: [u64; HEAP_BYTES / 8] = [0; HEAP_BYTES / 8];
    let arena = (&raw mut ARENA).addr();
    // SAFETY: nothing else uses the arena, and this is called once.
    unsafe { HEAP.lock().init(arena, HEAP_BYTES) };
    let Some(tree) = device_tree() else {
        say!("FAIL: no device tree at {DEVICE_TREE:#x}");
        console::exit(false)
    };
    match crate::main(tree, DEVICE_TREE as u64) {
        Ok(()) => {
            say!("PASS");
            console::exit(true)
        }
        Err(crate::Failure(why)) => {
            say!("FAIL: {why}");
            console::exit(false)
        }
    }
}

fn device_tree() -> Option<&'static [u8]> {
    let header = core::ptr::with_exposed_provenance::<u32>(DEVICE_TREE);
    // SAFETY: the start of RAM, which nothing writes.
    let [magic, size] =
        [0, 1].map(|n| u32::from_be(unsafe { header.wrapping_add(n).read_volatile() }));
    // SAFETY: as above, and QEMU puts the whole tree there.
    (magic == MAGIC).then(|| unsafe { slice::from_raw_parts(header.cast(), size as usize) })
}

extern "C" fn exception() -> ! {
    console::write(c"FAIL: an exception of the CPU\n");
    console::exit(false)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("FAIL: {info}");
    console::exit(false)
}
