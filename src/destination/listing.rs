//! Names for a line of the log.

use std::fmt;

use crate::text::sanitize;

/// The first few of many names, and the number of all of them.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    shown: Vec<String>,
    total: usize,
}

impl Listing {
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub(super) fn push(&mut self, name: &str) {
        // These fit on a line or two of a log.
        if self.shown.len() < 8 {
            self.shown.push(sanitize(name));
            self.shown.sort();
        }
        self.total += 1;
    }
}

impl FromIterator<String> for Listing {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        let mut listing = Self::default();
        names.into_iter().for_each(|name| listing.push(&name));
        listing
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown.join(", "))?;
        match self.total - self.shown.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_short_and_safe_to_print() {
        let listing = Listing::from_iter((0..11).map(|n| format!("{n}\u{1b}[31m"))).to_string();
        assert!(listing.ends_with(", and 3 more"), "{listing}");
        assert!(!listing.contains('\u{1b}'), "{listing}");
    }
}
