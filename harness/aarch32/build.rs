//! Where the image lies in memory, for the linker.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=image.ld");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy("image.ld", out.join("image.ld"))?;
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Timage.ld");
    Ok(())
}
