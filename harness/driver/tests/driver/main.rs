//! The driver composed of the crates, on the model.

mod adopt;
mod adopt_enhanced;
mod adopt_faults;
mod bench;
mod boot;
mod composed;
mod dma_words;
mod faults;
#[path = "../../../../smmu-hw-mmio/tests/firmware/iort_builder.rs"]
#[expect(dead_code, reason = "the tests of smmu-hw-mmio use all of it")]
mod iort_builder;
#[path = "../../../../smmu-hw-mmio/tests/firmware/iort_more.rs"]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod iort_more;
mod locks;
mod msis;
mod restart;
mod substream_faults;
mod suspend;
mod windows;
