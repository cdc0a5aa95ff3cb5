//! The laboratory: a leaf, a partition and machines on one computer.

pub mod sonic;
