//! Minimum, median and maximum of the figures of several runs.

use std::fmt;

/// The summary of a figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Returns `None` if there are no values.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values.len() / 2;
        let lower = (values.len() - 1) / 2;
        Some(Self { min, median: f64::midpoint(values[lower], values[upper]), max })
    }

    /// The ratios of the runs of one client to those of another. Each run is compared with the run of the other client
    /// that was beside it, so that what disturbed both does not count.
    pub(crate) fn from_ratios(ours: &[f64], other: &[f64]) -> Option<Self> {
        Self::new(ours.iter().zip(other).map(|(ours, other)| ours / other))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        write!(f, "{:.decimals$} / {:.decimals$} / {:.decimals$}", self.min, self.median, self.max)
    }
}

/// Formats a summary for a cell of a table.
pub(crate) fn cell(summary: Option<Summary>, decimals: usize) -> String {
    summary.map_or_else(|| "–".to_owned(), |summary| format!("{summary:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(min: f64, median: f64, max: f64) -> Option<Summary> {
        Some(Summary { min, median, max })
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(Summary::new([]), None);
        assert_eq!(Summary::new([3.0]), summary(3.0, 3.0, 3.0));
        assert_eq!(Summary::new([9.0, 1.0, 2.0]), summary(1.0, 2.0, 9.0));
        assert_eq!(Summary::new([4.0, 1.0, 9.0, 2.0]), summary(1.0, 3.0, 9.0));
    }

    #[test]
    fn ratios_are_of_pairs() {
        // The ratio of the medians would be 1.
        assert_eq!(Summary::from_ratios(&[1.0, 2.0, 6.0], &[2.0, 1.0, 2.0]), summary(0.5, 2.0, 3.0));
    }

    #[test]
    fn a_cell_has_three_figures_or_a_dash() {
        assert_eq!(cell(summary(0.5, 2.0, 3.25), 2), "0.50 / 2.00 / 3.25");
        assert_eq!(cell(summary(0.5, 2.0, 3.25), 0), "0 / 2 / 3");
        assert_eq!(cell(None, 2), "–");
    }
}
