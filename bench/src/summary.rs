//! The table of all ratios, which is kept in the document, so that a run of one part replaces its rows only.

use crate::report::Ratio;
use crate::statistics::{Summary, cell};
use crate::table::Table;

/// Replaces the ratios of the same name, and adds the others at the end.
pub(crate) fn merge(mut known: Vec<Ratio>, new: &[Ratio]) -> Vec<Ratio> {
    for ratio in new {
        match known.iter_mut().find(|known| known.name == ratio.name) {
            Some(known) => known.clone_from(ratio),
            None => known.push(ratio.clone()),
        }
    }
    known
}

/// Writes the table.
pub(crate) fn render(ratios: &[Ratio]) -> String {
    let mut table = Table::new(["what teleport-pipe needs", "minimum / median / maximum"]);
    for ratio in ratios {
        table.row([ratio.name.clone(), cell(Some(ratio.value), 2)]);
    }
    table.to_string()
}

/// Reads what `render` wrote; other lines are left out.
pub(crate) fn parse(table: &str) -> Vec<Ratio> {
    let row = |line: &str| {
        let (name, figures) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        let mut figures = figures.split(" / ").map(str::parse);
        let mut next = || figures.next()?.ok();
        Some(Ratio { name: name.to_owned(), value: Summary { min: next()?, median: next()?, max: next()? } })
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(name: &str, median: f64) -> Ratio {
        Ratio { name: name.to_owned(), value: Summary { min: 0.25, median, max: 2.0 } }
    }

    #[test]
    fn what_was_written_is_read() {
        let ratios = [ratio("time of a join, to Go library", 0.5), ratio("CPU", 1.0)];
        assert_eq!(parse(&render(&ratios)), ratios);
        assert_eq!(parse(""), []);
    }

    #[test]
    fn a_row_of_the_same_name_is_replaced() {
        let merged = merge(vec![ratio("a", 0.5), ratio("b", 0.5)], &[ratio("a", 1.0), ratio("c", 1.5)]);
        assert_eq!(merged, [ratio("a", 1.0), ratio("b", 0.5), ratio("c", 1.5)]);
    }
}
