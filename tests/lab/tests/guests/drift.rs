//! What somebody undoes behind leafboot's back is seen, said, and put right, on the real kernel's VRF with the model of
//! SONiC's daemons. Each test has a leaf of its own, whose rows are done one after another: a failure names its row.

mod configuration;
mod ground;
mod kernel;
mod reload;
