//! The parts of the document, a file each.

mod delay;
mod growth;
mod join;
mod latency;
mod many_joins;
mod sequence;
mod sessions;
mod small;
mod system_calls;
mod throughput;

use std::io;

use crate::cli::Part;
use crate::measurement::Measurement;
use crate::report::Report;

/// Measures a part.
///
/// # Errors
///
/// If a program fails.
pub(crate) fn measure(part: Part, measurement: &Measurement) -> io::Result<Report> {
    match part {
        Part::Throughput => throughput::measure(measurement),
        Part::Delay => delay::measure(measurement),
        Part::Latency => latency::measure(measurement),
        Part::Sessions => sessions::measure(measurement),
        Part::Join => join::measure(measurement),
        Part::ManyJoins => many_joins::measure(measurement),
        Part::Growth => growth::measure(measurement),
        Part::Small => small::measure(measurement),
        Part::SystemCalls => system_calls::measure(measurement),
        Part::Sequence => sequence::measure(measurement),
    }
}
