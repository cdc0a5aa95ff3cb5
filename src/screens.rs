//! What the commands for operators print: texts of at most 80 columns, made of the API's answers.
//!
//! `answers` has the answers as they are read, `layout` measures and colours, and the other files have a screen each.
//!
//! Must never: do I/O, read a clock, or print another program's text unescaped.

pub mod answers;
pub mod explain;
pub mod layout;
pub mod status;
pub mod timeline;

#[cfg(test)]
mod tests;
mod time;
