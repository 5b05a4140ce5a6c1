//! What a process of Linux must know before it drives an SMMU: no system call, tested on any host.
//!
//! | module | question |
//! |---|---|
//! | [`arguments`] | what the user asks for |
//! | [`known_smmus`] | which SMMUs and streams the firmware tables name |
//! | [`kernel_use`] | whether the kernel drives an SMMU, or a device behind it |
//! | [`pci_functions`] | which PCI functions there are |
//! | [`saved_state`] | what the registers must be again at the end |
//! | [`huge_page`] | where a huge page lies in physical memory |
//!
//! The answers come from files of the kernel, through [`SystemFiles`](system_files::SystemFiles).

pub mod arguments;
pub mod huge_page;
mod iomem;
pub mod kernel_use;
pub mod known_smmus;
pub mod pci_functions;
pub mod saved_state;
pub mod system_files;

#[cfg(test)]
mod test_system;
