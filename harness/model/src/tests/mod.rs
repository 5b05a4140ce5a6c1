//! Tests of the model, one file per subject.

mod ats;
mod config;
mod enhanced;
mod events;
mod faults;
mod fuzz;
mod granules;
mod memo;
mod model_rig;
mod msis;
mod nested;
mod nested_ats;
mod nested_faults;
mod nested_rig;
mod nested_tables;
mod queue;
mod registers;
mod second;
mod several;
mod stage1;
mod stage2;
mod substream_rig;
mod substreams;
mod unhelpful;
mod waiting;
