//! The parts of the document, a file each.

mod join;
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
        Part::Join => join::measure(measurement),
    }
}
