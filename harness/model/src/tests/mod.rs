//! Tests of the model, by what they are about.

mod config;
mod events;
mod faults;
mod fuzz;
mod queue;
mod registers;
mod rig;
mod second;
mod several;
mod stage1;
mod stage2;
