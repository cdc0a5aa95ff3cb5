//! Images that are passed through: every byte of them or no clean end, and no machine can hold the upstream or the relay.

use crate::room::Case;

/// Cases about images.
pub const CASES: &[Case] = &[];
