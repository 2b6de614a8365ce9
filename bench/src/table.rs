//! Tables in Markdown, whose cells have the minimum, the median and the maximum of several runs.

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

    /// The ratios of a figure of one client to that of another. Each run is compared with the other client's run of the
    /// same turn, so that what disturbed both does not count.
    pub(crate) fn from_ratios<T, I: IntoIterator<Item = f64>>(
        ours: &[T],
        other: &[T],
        figure: impl Fn(&T) -> I,
    ) -> Option<Self> {
        let pairs = ours.iter().flat_map(&figure).zip(other.iter().flat_map(&figure));
        Self::new(pairs.map(|(ours, other)| ours / other))
    }
}

/// A cell for a figure of all runs, of which a run may have none.
pub(crate) fn cell<T, I: IntoIterator<Item = f64>>(runs: &[T], decimals: usize, figure: impl Fn(&T) -> I) -> String {
    summary_cell(Summary::new(runs.iter().flat_map(figure)), decimals)
}

pub(crate) fn summary_cell(summary: Option<Summary>, decimals: usize) -> String {
    let Some(Summary { min, median, max }) = summary else { return "–".to_owned() };
    format!("{min:.decimals$} / {median:.decimals$} / {max:.decimals$}")
}

/// A table with a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| writeln!(f, "| {} |", cells.join(" | "));
        line(f, &self.header)?;
        writeln!(f, "|{}", "---|".repeat(self.header.len()))?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
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
        let ratios = Summary::from_ratios(&[1.0, 2.0, 6.0], &[2.0, 1.0, 2.0], |figure| Some(*figure));
        assert_eq!(ratios, summary(0.5, 2.0, 3.0));
    }

    #[test]
    fn a_cell_has_three_figures_or_a_dash() {
        assert_eq!(cell(&[3.25, 0.5, 2.0], 2, |figure| Some(*figure)), "0.50 / 2.00 / 3.25");
        assert_eq!(cell(&[3.25, 0.5, 2.0], 0, |figure| Some(*figure)), "0 / 2 / 3");
        assert_eq!(cell(&[1.0], 2, |_| None), "–");
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(["client", "time"]);
        table.row(["ssh", "1 s"]);
        assert_eq!(table.to_string(), "| client | time |\n|---|---|\n| ssh | 1 s |\n");
    }
}
