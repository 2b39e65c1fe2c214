//! Medians of rounds, and what the process used, as Linux tells it.

use std::fmt;
use std::fs;

use serde::Serialize;

/// Clock ticks a second in `/proc`: fixed by the Linux ABI, whatever the kernel's own rate.
const CLOCK_TICKS_A_SECOND: f64 = 100.0;

/// One figure over the rounds of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// The middle round; of an even number, the higher of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Figure {
    /// Sums the rounds up; all zeros without any.
    ///
    /// ```
    /// # use tidegate::bench::figures::Figure;
    /// assert_eq!(Figure::of(&[3.0, 9.0, 1.0]), Figure { median: 3.0, min: 1.0, max: 9.0 });
    /// ```
    pub fn of(rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Self { median: at(sorted.len() / 2), min: at(0), max: at(sorted.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} ({}..{})", significant(self.median), significant(self.min), significant(self.max)))
    }
}

/// One figure over many runs, of which the worst ones matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the runs took at most this.
    pub p50: f64,
    /// 99 of 100 runs took at most this.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Percentiles {
    /// Sums the runs up; all zeros without any.
    ///
    /// ```
    /// # use tidegate::bench::figures::Percentiles;
    /// let runs: Vec<f64> = (1..=200).rev().map(f64::from).collect();
    /// assert_eq!(Percentiles::of(&runs), Percentiles { p50: 100.0, p99: 198.0, max: 200.0 });
    /// ```
    pub fn of(runs: &[f64]) -> Self {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        // The smallest run that so many of a hundred do not exceed.
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}, {}", significant(self.p50), significant(self.p99)))
    }
}

/// Writes a number with three digits that count.
pub(crate) fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns the most memory that the process ever had resident, in bytes; `None` where `/proc` does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    vm_hwm(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Returns the CPU time that the process used so far, user and system, in seconds; `None` where `/proc` does not tell.
pub fn cpu_seconds() -> Option<f64> {
    Some(cpu_ticks(&fs::read_to_string("/proc/self/stat").ok()?)? as f64 / CLOCK_TICKS_A_SECOND)
}

fn vm_hwm(status: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `utime` and `stime`, fields 14 and 15. The second field is the program's name in parentheses, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    fields.next()?.ok()?.checked_add(fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_is_the_higher_middle() {
        assert_eq!(Figure::of(&[4.0, 1.0, 2.0, 3.0]), Figure { median: 3.0, min: 1.0, max: 4.0 });
        assert_eq!(Figure::of(&[]), Figure::default());
    }

    #[test]
    fn three_digits_count() {
        assert_eq!([1234.5, 12.345, 1.2345, 0.012_345].map(significant), ["1234", "12.3", "1.23", "0.012"]);
    }

    #[test]
    fn the_peak_is_read_from_its_line_of_the_status() {
        assert_eq!(vm_hwm("Name:\ttidegate\nVmPeak:\t  99 kB\nVmHWM:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!(vm_hwm("VmHWM:\t many kB\n"), None);
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }
}
