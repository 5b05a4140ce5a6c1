//! The driver composed of the crates, on the model.

mod adopt;
mod adopt_faults;
mod bench;
mod boot;
mod composed;
mod dma_words;
mod faults;
mod locks;
mod restart;
mod substream_faults;
mod suspend;
