//! leafboot: the switch-side boot agent of a metal-stack partition.
