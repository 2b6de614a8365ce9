//! What was measured.

use clap::ValueEnum;

use crate::table::{Summary, Table, summary_cell};

/// The name of a text that is on the page. The document has it as clap writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Text {
    Machine,
    Summary,
    Join,
    JoinRatios,
    Sequence,
    SequenceRest,
    ManyJoins,
    Throughput,
    ThroughputRatios,
    Memory,
    SystemCalls,
    Delay,
    DelayRatios,
    Latency,
    LatencyRatios,
    Sessions,
    SessionsRatios,
    Small,
}

impl Text {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The texts for the page, and the ratios for its summary and the chart.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) texts: Vec<(Text, String)>,
    pub(crate) ratios: Vec<Ratio>,
}

/// A ratio of teleport-pipe to another client: below 1, teleport-pipe needs less.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) other: &'static str,
    pub(crate) value: Summary,
}

impl Report {
    /// Adds a text, and prints it.
    pub(crate) fn text(&mut self, name: Text, text: impl ToString) {
        let text = text.to_string();
        println!("{}:\n\n{}\n", name.name(), text.trim_end());
        self.texts.push((name, text));
    }

    /// Adds a ratio, if there is one.
    pub(crate) fn ratio(&mut self, what: impl Into<String>, other: &'static str, value: Option<Summary>) {
        self.ratios.extend(value.map(|value| Ratio { what: what.into(), other, value }));
    }

    /// Adds the table of all ratios.
    pub(crate) fn summarize(&mut self) {
        let mut table = Table::new(["what teleport-pipe needs", "compared with", "ratio"]);
        for ratio in &self.ratios {
            table.row([&ratio.what, ratio.other, &summary_cell(Some(ratio.value), 2)]);
        }
        self.text(Text::Summary, table);
    }
}
