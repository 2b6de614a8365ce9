//! Where a person finds the documents of this version: the repository of `Cargo.toml`, whose host renders Markdown.

/// The URL of a section of `docs/troubleshooting.md`. `anchor` is its heading as a slug, to which the host adds a prefix
/// (docs/protocol.md, "Anchors of documents").
pub(crate) fn troubleshooting(anchor: &str) -> String {
    const PAGE: &str =
        concat!(env!("CARGO_PKG_REPOSITORY"), "/src/", env!("CARGO_PKG_VERSION"), "/docs/troubleshooting.md");
    format!("{PAGE}#markdown-header-{anchor}")
}
