//! Tests in which a leaf runs: user-mode-linux, and mostly machines in QEMU.
//!
//! They wait more than they compute, and each has a leaf of its own: in one binary they run side by side.

mod advertise;
mod another_machine;
mod container;
mod drift;
mod guard;
mod leaf;
mod relay;
mod service;
mod sonic_model_real;
mod story;
mod switch;
mod unit;
mod verdicts;
