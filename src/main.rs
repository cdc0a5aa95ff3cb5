//! The leafboot binary.
fn main() {}
