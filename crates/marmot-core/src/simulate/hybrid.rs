//! The hybrid histogram policy of "Serverless in the Wild" (Shahrad et al., USENIX ATC '20, section 4.2), to compare with.
//!
//! Idle times in bins of a minute over four hours. The 5th percentile, less a tenth, is when the app is loaded again; the
//! 99th, and a tenth, is until when it is kept. While the histogram is not representative (the counts of its bins vary
//! less than twice their mean) an app is kept for all of the histogram's range. With more than half of the idle times out
//! of bounds the paper asks an ARIMA model for the next one, with 15 % to each side; here the median of the last eight
//! stands for it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Moment;
use crate::scaling::foresight::Outlook;

const MINUTES: usize = 240;
const REPRESENTATIVE: f64 = 2.0;

/// What the policy knows of one app.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    bins: Vec<u32>,
    beyond: u32,
    last: VecDeque<u64>,
    used: Option<u64>,
}

impl Histogram {
    /// Notes use at this millisecond. `was_idle`: nothing was under way.
    pub fn note(&mut self, at: u64, was_idle: bool) {
        if let Some(used) = self.used.filter(|_| was_idle) {
            let idle = at.saturating_sub(used);
            if self.bins.is_empty() {
                self.bins = vec![0; MINUTES];
            }
            match self.bins.get_mut((idle / 60_000) as usize) {
                Some(bin) => *bin += 1,
                None => self.beyond += 1,
            }
            self.last.push_back(idle);
            if self.last.len() > 8 {
                self.last.pop_front();
            }
        }
        self.used = Some(self.used.map_or(at, |used| used.max(at)));
    }

    /// Pre-warming and keep-alive window, in milliseconds of a silence.
    fn windows(&self) -> (u64, u64) {
        const RANGE: u64 = MINUTES as u64 * 60_000;
        let within: u32 = self.bins.iter().sum();
        if self.beyond > within && self.last.len() >= 3 {
            let mut last: Vec<u64> = self.last.iter().copied().collect();
            last.sort_unstable();
            let next = last[last.len() / 2];
            return (next / 100 * 85, next / 100 * 30);
        }
        if within < 2 || self.variation() < REPRESENTATIVE {
            return (0, RANGE);
        }
        let percentile = |part: f64| {
            let rank = (f64::from(within) * part).ceil().max(1.0);
            let mut seen = 0.0;
            let bin = self.bins.iter().position(|count| {
                seen += f64::from(*count);
                seen >= rank
            });
            bin.unwrap_or(MINUTES - 1) as u64
        };
        // Bins are rounded down for the head and up for the tail.
        let (head, tail) = (percentile(0.05) * 60_000 / 10 * 9, (percentile(0.99) + 1) * 60_000 / 10 * 11);
        (head, tail.saturating_sub(head))
    }

    /// The coefficient of variation of the bins' counts.
    fn variation(&self) -> f64 {
        let count = MINUTES as f64;
        let mean = self.bins.iter().map(|bin| f64::from(*bin)).sum::<f64>() / count;
        let squares = self.bins.iter().map(|bin| (f64::from(*bin) - mean).powi(2)).sum::<f64>() / count;
        squares.sqrt() / mean.max(f64::MIN_POSITIVE)
    }

    /// What to do at this millisecond of a silence.
    pub fn outlook(&self, now: u64) -> Option<Outlook> {
        let idle = now - self.used?.min(now);
        let (from, kept) = self.windows();
        let keep = (from..from + kept).contains(&idle);
        let until = [from, from + kept].into_iter().find(|change| *change > idle);
        let until = Moment::from_millis(now)
            + until.map_or(Duration::from_secs(365 * 86_400), |change| Duration::from_millis(change - idle));
        Some(Outlook { keep, light: keep, begin: keep, awake: false, percent: 0, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_unloaded_and_loaded_again_in_time() {
        let mut histogram = Histogram::default();
        (0..50).for_each(|visit| histogram.note(visit * 3_600_000, true));
        let at = |minutes: u64| histogram.outlook(49 * 3_600_000 + minutes * 60_000).unwrap().keep;
        assert_eq!([1, 53, 54, 60, 66, 70].map(at), [false, false, true, true, true, false]);
    }

    #[test]
    fn with_nothing_known_it_is_kept_for_four_hours() {
        let mut histogram = Histogram::default();
        histogram.note(0, true);
        assert!(histogram.outlook(239 * 60_000).unwrap().keep);
        assert!(!histogram.outlook(241 * 60_000).unwrap().keep);
    }
}
