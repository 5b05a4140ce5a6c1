//! Where an image lies in memory, for the linker and for the first page table.

use std::{env, error::Error, fs, path::PathBuf};

/// Offset of an image from the start of RAM: the `text_offset` of its header.
const IMAGE_OFFSET: u64 = 0x20_0000;
const BARE_BINARIES: [&str; 3] = ["tour", "rates", "scenarios"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=SMMU_BOARD_RAM");
    println!("cargo:rerun-if-changed=head.ld");
    let text = env::var("SMMU_BOARD_RAM").unwrap_or_else(|_| "0x40000000".into());
    let ram = text.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let ram = ram.filter(|ram| ram.is_multiple_of(IMAGE_OFFSET) && *ram < 1 << 39);
    let ram = ram.ok_or_else(|| {
        format!("SMMU_BOARD_RAM = {text}: give the start of RAM in hex, a multiple of 2 MiB below 512 GiB")
    })?;
    println!("cargo:rustc-env=SMMU_BOARD_IMAGE={}", ram + IMAGE_OFFSET);

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let image = ram + IMAGE_OFFSET;
    fs::write(
        out.join("memory.ld"),
        format!("MEMORY {{ image : ORIGIN = {image:#x}, LENGTH = 16M }}\n"),
    )?;
    fs::copy("head.ld", out.join("head.ld"))?;
    println!("cargo:rustc-link-search={}", out.display());
    for binary in BARE_BINARIES {
        // Functions that compile to the same code are in the image once.
        println!("cargo:rustc-link-arg-bin={binary}=--icf=all");
        for script in ["memory.ld", "head.ld", "image.ld"] {
            println!("cargo:rustc-link-arg-bin={binary}=-T{script}");
        }
    }
    // A process of Linux: static, below all addresses at which the kernel maps.
    for argument in ["-e_start", "--image-base=0x10000000", "--icf=all"] {
        println!("cargo:rustc-link-arg-bin=linux={argument}");
    }
    Ok(())
}
