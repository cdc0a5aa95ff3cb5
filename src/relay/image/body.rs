//! The body of an image's answer: bytes of a shared object or of an upstream's own answer, in turns with everybody
//! else's, within the budget, and exactly as many as its Content-Length says.
//!
//! Must never: end before its Content-Length without an error, or hold more than one chunk.
