//! Outputs: the files that are rendered from credentials.

pub(crate) mod identity;
