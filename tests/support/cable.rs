//! Two ends of a cable.
