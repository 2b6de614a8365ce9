//! A file to be written.

use std::fmt;

use rustix::fs::Mode;
use zeroize::Zeroize as _;

use crate::output_files::GITIGNORE;

#[derive(Clone)]
pub(crate) struct File {
    pub(super) name: String,
    pub(super) contents: Vec<u8>,
    pub(super) mode: Mode,
}

impl File {
    /// A file that only its owner can read. The contents are copied; the copy is zeroized when it is dropped.
    pub(crate) fn private(name: impl Into<String>, contents: impl AsRef<[u8]>) -> Self {
        Self { name: name.into(), contents: contents.as_ref().to_vec(), mode: Mode::RUSR | Mode::WUSR }
    }

    /// A program. The contents are moved, not copied, because our binary has 3 MB.
    pub(crate) fn executable(name: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), contents: contents.into(), mode: Mode::RWXU }
    }

    /// A `.gitignore` by which git ignores everything in the directory.
    pub(super) fn gitignore() -> Self {
        Self::private(GITIGNORE, "*\n")
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// In bytes.
    pub(crate) fn size(&self) -> usize {
        self.contents.len()
    }
}

impl Drop for File {
    /// A program is not secret, and zeroizing 3 MB takes time.
    fn drop(&mut self) {
        if self.mode != Mode::RWXU {
            self.contents.zeroize();
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("name", &self.name).finish_non_exhaustive()
    }
}
