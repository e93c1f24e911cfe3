//! Which hibernated replicas make room when memory is short: first by sleeping deeper, then by being stopped.

use crate::Moment;
use crate::id::ReplicaId;

/// What a hibernated replica costs to keep, and what it would cost to bring back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sleeper {
    /// Which replica.
    pub id: ReplicaId,
    /// Memory it still holds, in bytes: resident and compressed.
    pub bytes: u64,
    /// What of it would most likely be free if it slept deeper, in bytes. 0: it cannot.
    pub deeper: u64,
    /// How long a cold start of it took, in seconds.
    pub cold_start: f64,
    /// How often it was woken so far.
    pub wakes: u32,
    /// When it was last used.
    pub last_used: Moment,
}

/// What a replica does for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// It sleeps deeper: what it kept to wake quickly goes as well.
    Deepen(ReplicaId),
    /// It is stopped: its next visitor waits for a cold start.
    Stop(ReplicaId),
}

/// What to do so that `to_free` bytes become free, as far as sleepers can give them.
///
/// Sleeping deeper costs the next visitor some tens of milliseconds, a cold start seconds: nobody is stopped for what
/// deeper sleep gives. Greedy-dual (FaasCache, ASPLOS '21, <https://doi.org/10.1145/3445814.3446757>): the first to go
/// are those with the least *frequency × cold-start cost ÷ memory*, aged by the time since they were last used.
pub fn relieve(now: Moment, to_free: u64, sleepers: &[Sleeper]) -> Vec<Relief> {
    let mut ranked: Vec<_> = sleepers.iter().map(|sleeper| (worth(now, sleeper), sleeper)).collect();
    ranked.sort_by(|(a, left), (b, right)| a.total_cmp(b).then(left.id.cmp(&right.id)));
    let by_depth: u64 = sleepers.iter().map(|sleeper| sleeper.deeper).sum();
    let (mut to_deepen, mut to_stop) = (to_free.min(by_depth), to_free.saturating_sub(by_depth));
    let mut relief = Vec::new();
    for (_, sleeper) in ranked {
        if to_stop > 0 {
            to_stop = to_stop.saturating_sub(sleeper.bytes.saturating_sub(sleeper.deeper));
            to_deepen = to_deepen.saturating_sub(sleeper.deeper);
            relief.push(Relief::Stop(sleeper.id));
        } else if to_deepen > 0 && sleeper.deeper > 0 {
            to_deepen = to_deepen.saturating_sub(sleeper.deeper);
            relief.push(Relief::Deepen(sleeper.id));
        }
    }
    relief
}

/// What keeping a sleeper is worth, per byte and second of its age.
fn worth(now: Moment, sleeper: &Sleeper) -> f64 {
    let age = (now - sleeper.last_used).as_secs_f64() + 1.0;
    f64::from(sleeper.wakes + 1) * sleeper.cold_start.max(0.1) / (sleeper.bytes.max(1) as f64 * age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sleeper(n: u128) -> Sleeper {
        let (bytes, deeper) = (50 * MIB, 0);
        Sleeper { id: n.into(), bytes, deeper, cold_start: 1.0, wakes: 1, last_used: Moment::START }
    }

    fn at_ten(to_free_mib: u64, sleepers: &[Sleeper]) -> Vec<Relief> {
        relieve(Moment::from_millis(10_000), to_free_mib * MIB, sleepers)
    }

    fn stop(sleeper: &Sleeper) -> Relief {
        Relief::Stop(sleeper.id)
    }

    #[test]
    fn nothing_is_done_while_there_is_enough() {
        assert_eq!(at_ten(0, &[sleeper(1), sleeper(2)]), []);
    }

    #[test]
    fn the_one_least_worth_keeping_goes_first() {
        let slow_to_start = Sleeper { cold_start: 4.0, ..sleeper(1) };
        let often_used = Sleeper { wakes: 9, ..sleeper(2) };
        let just_used = Sleeper { last_used: Moment::from_millis(9_000), ..sleeper(3) };
        let large = Sleeper { bytes: 200 * MIB, ..sleeper(4) };
        let all = [slow_to_start, often_used, just_used, sleeper(5), large];
        assert_eq!(at_ten(150, &all), [stop(&large)]);
        assert_eq!(at_ten(201, &all), [stop(&large), stop(&sleeper(5))]);
    }

    #[test]
    fn nobody_is_stopped_for_what_deeper_sleep_gives() {
        let [light, deep, worthy] =
            [Sleeper { deeper: 20 * MIB, ..sleeper(1) }, sleeper(2), Sleeper { wakes: 9, ..sleeper(3) }];
        let worthy = Sleeper { deeper: 20 * MIB, ..worthy };
        let all = [light, deep, worthy];
        assert_eq!(at_ten(20, &all), [Relief::Deepen(light.id)]);
        assert_eq!(at_ten(40, &all), [Relief::Deepen(light.id), Relief::Deepen(worthy.id)]);
        // 40 by depth; 30 more by stopping the first, which is not deepened then.
        assert_eq!(at_ten(70, &all), [stop(&light), Relief::Deepen(worthy.id)]);
        assert_eq!(at_ten(1000, &all), [stop(&light), stop(&deep), stop(&worthy)]);
    }
}
