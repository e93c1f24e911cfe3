//! What could be had at best: the fewest cold starts of whoever knows all arrivals and may keep an app, or let it go.

use super::Trace;

/// The fewest cold starts that keeping alone could have at this much memory: after each visit an app either sleeps, as
/// deep as it can and at once, until the next, or is stopped. The first visit of each app is a cold start for everybody.
///
/// Whoever boots apps ahead of visits may have fewer: then the question is what can be known of them.
pub fn fewest_cold(trace: &Trace, gb_hours: f64) -> u64 {
    let mut ends: Vec<Option<u64>> = vec![None; trace.apps.len()];
    // What it costs to keep an app from one visit to the next, in MB × milliseconds.
    let mut gaps = Vec::new();
    let (mut firsts, mut used) = (0, 0);
    for arrival in &trace.arrivals {
        let kind = trace.apps[arrival.app as usize].1;
        let end = &mut ends[arrival.app as usize];
        let done = arrival.at + u64::from(arrival.duration);
        let from = match *end {
            None => {
                firsts += 1;
                arrival.at
            }
            Some(end) if end < arrival.at => {
                gaps.push((arrival.at - end) * kind.deep);
                arrival.at
            }
            Some(end) => end,
        };
        used += done.saturating_sub(from) * kind.running;
        *end = Some(done.max(from));
    }
    gaps.sort_unstable();
    let mut left = ((gb_hours * 3_600_000.0 * 1000.0) as u64).saturating_sub(used);
    let kept = gaps.iter().take_while(|gap| {
        let fits = **gap <= left;
        left = left.saturating_sub(**gap);
        fits
    });
    let kept = kept.count();
    firsts + (gaps.len() - kept) as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Arrival, KINDS};
    use super::*;

    #[test]
    fn the_shortest_gaps_are_kept_as_far_as_memory_reaches() {
        const HOUR: u64 = 3_600_000;
        let visit = |hour: u64| Arrival { at: hour * HOUR, app: 0, duration: 0, sessions: 0 };
        // Gaps of one, two and three hours.
        let arrivals = [0, 1, 3, 6].map(visit).to_vec();
        let trace = Trace { apps: vec![("iris".to_owned(), KINDS[0])], arrivals, end: 7 * HOUR };
        let hour = KINDS[0].deep as f64 / 1000.0;
        let bound = |hours: f64| fewest_cold(&trace, hours * hour + 1e-9);
        assert_eq!([0.0, 0.9, 1.0, 2.9, 3.0, 6.0].map(bound), [4, 4, 3, 3, 2, 1]);
    }
}
