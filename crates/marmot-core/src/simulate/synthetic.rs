//! Traces with the shape that was published of Azure Functions in July 2019: Shahrad et al., "Serverless in the Wild",
//! USENIX ATC '20, sections 3.2 to 3.4.
//!
//! | figure used | published |
//! |---|---|
//! | popularity | 45 % of apps are invoked at most once an hour, 81 % at most once a minute; the 18.6 % above make 99.6 % of invocations; eight orders of magnitude between the ends. A log-normal through the two points has σ = 4.08; rates are then scaled so that the trace has the number of arrivals asked for |
//! | timers | 15 % of apps are invoked by timers only, at a fixed period |
//! | irregularity | inter-arrival times of most other apps vary more than those of a Poisson process (CV > 1): arrivals come in visits, whose length is geometric |
//! | day and week | about half of the load is constant, half follows the working day; weekends are lower |
//! | duration | log-normal with μ = −0.38 and σ = 2.36 of the seconds' logarithm, half of it below 0.7 s |
//!
//! Memory and boot times are not Azure's but those of the apps that were measured here.

use super::{Arrival, KINDS, Trace};

/// What trace to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synthetic {
    /// How many apps.
    pub apps: u32,
    /// How many days, from a Monday on.
    pub days: u32,
    /// About how many arrivals.
    pub arrivals: u64,
    /// The same seed gives the same trace.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { apps: 2_000, days: 14, arrivals: 1_000_000, seed: 1 }
    }
}

const DAY: f64 = 86_400.0;
/// Of the logarithm of rates.
const POPULARITY_SIGMA: f64 = 4.08;
/// No app has more than this part of all arrivals.
const MOST_OF_ALL: f64 = 0.05;
const TIMERS: f64 = 0.15;
/// Of the apps that people use: those that are used in working hours only, mostly.
const OFFICE: f64 = 0.6;
/// Arrivals of one visit, on average, and the seconds between them.
const VISIT: (f64, f64) = (5.0, 20.0);
/// The logarithm of a duration in seconds.
const DURATION: (f64, f64) = (-0.38, 2.36);
const LONGEST: f64 = 600.0;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA '14): numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0 and at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Makes a trace.
pub fn make(what: Synthetic) -> Trace {
    let mut numbers = Numbers(what.seed);
    let span = f64::from(what.days) * DAY;
    let counts = counts(&mut numbers, what);
    let mut trace = Trace { end: (span * 1000.0) as u64, ..Trace::default() };
    for (number, count) in counts.into_iter().enumerate() {
        let kind = KINDS[numbers.next() as usize % KINDS.len()];
        trace.apps.push((format!("app-{number}"), kind));
        let app = u32::try_from(number).unwrap_or(u32::MAX);
        let mut arrive = |numbers: &mut Numbers, seconds: f64| {
            let (mu, sigma) = DURATION;
            let duration = (mu + sigma * numbers.normal()).exp().clamp(0.001, LONGEST);
            let at = (seconds * 1000.0) as u64;
            if seconds < span {
                trace.arrivals.push(Arrival { at, app, duration: (duration * 1000.0) as u32, sessions: 0 });
            }
        };
        if numbers.unit() <= TIMERS {
            timer(&mut numbers, span, count, &mut arrive);
        } else {
            visits(&mut numbers, span, count, &mut arrive);
        }
    }
    trace.in_order()
}

/// How many arrivals each app has: log-normal, scaled to the number that is asked for.
fn counts(numbers: &mut Numbers, what: Synthetic) -> Vec<f64> {
    let mut rates: Vec<f64> = (0..what.apps).map(|_| (POPULARITY_SIGMA * numbers.normal()).exp()).collect();
    let arrivals = what.arrivals as f64;
    for _ in 0..20 {
        let scale = arrivals / rates.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        rates.iter_mut().for_each(|rate| *rate = (*rate * scale).min(arrivals * MOST_OF_ALL));
    }
    rates
}

/// At a fixed period, a little late each time.
fn timer(numbers: &mut Numbers, span: f64, count: f64, arrive: &mut impl FnMut(&mut Numbers, f64)) {
    let period = (span / count.max(0.5)).max(1.0);
    let mut at = numbers.unit() * period;
    while at < span {
        let late = numbers.unit() * 0.5;
        arrive(numbers, at + late);
        at += period;
    }
}

/// In visits, which come by chance, more often by day.
fn visits(numbers: &mut Numbers, span: f64, count: f64, arrive: &mut impl FnMut(&mut Numbers, f64)) {
    let office = numbers.unit() <= OFFICE;
    // Its people's working day begins between six and ten, UTC.
    let begins = 6.0 + 4.0 * numbers.unit();
    let (visit, between) = VISIT;
    let (average, most) = if office { (0.265, 1.0) } else { (1.0, 1.0) };
    let gap = span * visit / count.max(0.05) * average / most;
    let mut at = numbers.exponential(gap);
    while at < span {
        // Thinned: of visits at the highest rate, those remain that the hour has.
        if !office || numbers.unit() <= by_hour(at, begins) {
            let mut when = at;
            loop {
                arrive(numbers, when);
                if numbers.unit() <= 1.0 / visit {
                    break;
                }
                when += numbers.exponential(between);
            }
        }
        at += numbers.exponential(gap);
    }
}

/// How busy an hour is, of the busiest.
fn by_hour(at: f64, begins: f64) -> f64 {
    let (day, hour) = ((at / DAY) as u64 % 7, at % DAY / 3600.0);
    let working = (begins..begins + 9.0).contains(&hour);
    match (day < 5, working) {
        (true, true) => 1.0,
        (true, false) => 0.04,
        (false, true) => 0.08,
        (false, false) => 0.01,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_published_skew_and_the_number_of_arrivals_asked_for() {
        let trace = make(Synthetic { arrivals: 200_000, ..Synthetic::default() });
        assert!((150_000..260_000).contains(&trace.arrivals.len()), "{}", trace.arrivals.len());
        let mut counts = vec![0u64; trace.apps.len()];
        trace.arrivals.iter().for_each(|arrival| counts[arrival.app as usize] += 1);
        counts.sort_unstable_by(|left, right| right.cmp(left));
        let top: u64 = counts[..counts.len() * 186 / 1000].iter().sum();
        let share = top as f64 / trace.arrivals.len() as f64;
        assert!(share > 0.97, "the most popular 18.6 % have {share}");
        assert!(trace.arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        let small = Synthetic { apps: 20, days: 2, arrivals: 1_000, seed: 7 };
        assert_eq!(make(small), make(small));
        assert_ne!(make(small), make(Synthetic { seed: 8, ..small }));
    }
}
