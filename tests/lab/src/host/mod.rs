//! The computer's side: starts the laboratory, follows a machine's boot, and checks the result.
//!
//! Every program that it starts runs in the laboratory's own network namespace and ends with the thread that started
//! it.

pub mod artifacts;
pub mod demo;
mod error;
pub mod lab;
pub mod leaf;
pub mod machine;
pub mod network;
pub mod partition;
pub mod process;
pub mod proof;
pub mod story;
mod wait;

pub use error::Error;
pub use wait::until;
