//! leafboot notices, reports and repairs what others change, on the real kernel's VRF with the model of SONiC's
//! daemons. Each test has a leaf of its own, whose rows are done one after another: a failure names its row.

mod configuration;
mod ground;
mod kernel;
mod reload;
