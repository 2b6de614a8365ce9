//! What a destination is for.

/// What the files of a destination are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Credentials,
    /// Resources of a cluster. They never lie beside credentials, because artifacts may carry them out of the step.
    Resources,
}
