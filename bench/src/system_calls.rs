//! The summary of `strace -c`.

use std::collections::BTreeMap;

/// Calls by name.
pub(crate) type Calls = BTreeMap<String, u64>;

/// Reads the table that `strace -c` writes.
pub(crate) fn parse(summary: &str) -> Calls {
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, calls, .., name] = cells[..] else { return None };
        (name != "total").then_some(())?;
        Some((name.to_owned(), calls.parse().ok()?))
    };
    summary.lines().filter_map(row).collect()
}

/// All calls a MiB, and those of which there are the most.
pub(crate) fn describe(calls: &Calls, mebibytes: f64) -> (String, String) {
    let rate = |count: u64| format!("{:.1}", f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / mebibytes);
    let mut sorted: Vec<_> = calls.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let most: Vec<_> = sorted.iter().take(6).map(|(name, count)| format!("{name} {}", rate(**count))).collect();
    (rate(calls.values().sum()), most.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.92    0.000172          86        20           write
 37.85    0.000123          30         4         1 futex
  0.00    0.000000           0         6         6 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000325          13        30         7 total
";

    #[test]
    fn calls_are_counted_by_name() {
        let calls = parse(SUMMARY);
        assert_eq!(calls, Calls::from([("write".into(), 20), ("futex".into(), 4), ("read".into(), 6)]));
        assert_eq!(describe(&calls, 2.0), ("15.0".to_owned(), "write 10.0, read 3.0, futex 2.0".to_owned()));
    }
}
