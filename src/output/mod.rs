//! What is made of credentials: files in a destination.

pub(crate) mod identity;
