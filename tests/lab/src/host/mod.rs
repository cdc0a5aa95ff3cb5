//! The computer's side: starts the laboratory, tells the story, and looks at what really happened.
//!
//! Everything it starts lives in a network namespace of its own and dies with the thread that started it.

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
