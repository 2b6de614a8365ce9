//! What is measured, a file for each kind.

mod delay;
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
pub(crate) fn measure(part: Part, measurement: &Measurement, report: &mut Report) -> io::Result<()> {
    let measure = match part {
        Part::Throughput => throughput::measure,
        Part::Delay => delay::measure,
        Part::Latency => latency::measure,
        Part::Sessions => sessions::measure,
        Part::Join => join::measure,
        Part::ManyJoins => many_joins::measure,
        Part::Small => small::measure,
        Part::SystemCalls => system_calls::measure,
        Part::Sequence => sequence::measure,
    };
    measure(measurement, report)
}
