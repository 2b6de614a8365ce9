//! What a measurement found.

use crate::statistics::Summary;

/// The texts for the document, and the ratios for its summary and the chart.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Each with the name of its part of the document.
    pub(crate) texts: Vec<(&'static str, String)>,
    pub(crate) ratios: Vec<Ratio>,
}

/// A ratio of teleport-pipe to another client: below 1, teleport-pipe needs less.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) name: String,
    pub(crate) value: Summary,
}

impl Report {
    pub(crate) fn text(&mut self, name: &'static str, text: impl ToString) {
        self.texts.push((name, text.to_string()));
    }

    /// Adds a ratio, if there is one.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, value: Option<Summary>) {
        self.ratios.extend(value.map(|value| Ratio { name: name.into(), value }));
    }
}
