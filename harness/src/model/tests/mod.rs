//! Tests of the model, by what they are about.

mod config;
mod events;
mod fuzz;
mod queue;
mod registers;
mod rig;
mod several;
mod stage1;
mod stage2;
