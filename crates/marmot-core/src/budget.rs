//! Which hibernated replicas to stop when together they hold more memory than they may.

use crate::Moment;
use crate::id::ReplicaId;

/// What a hibernated replica costs to keep, and what it would cost to bring back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sleeper {
    /// Which replica.
    pub id: ReplicaId,
    /// Memory it still holds, in bytes: resident and compressed.
    pub bytes: u64,
    /// How long a cold start of it took, in seconds.
    pub cold_start: f64,
    /// How often it was woken so far.
    pub wakes: u32,
    /// When it was last used.
    pub last_used: Moment,
}

/// The replicas to stop, so that the rest hold at most `budget` bytes.
///
/// Greedy-dual (FaasCache, ASPLOS '21, <https://doi.org/10.1145/3445814.3446757>): the first to go are those with
/// the least *frequency × cold-start cost ÷ memory*, aged by the time since they were last used.
pub fn evict(now: Moment, budget: u64, sleepers: &[Sleeper]) -> Vec<ReplicaId> {
    let mut held: u64 = sleepers.iter().map(|sleeper| sleeper.bytes).sum();
    let mut ranked: Vec<_> = sleepers.iter().map(|sleeper| (worth(now, sleeper), sleeper)).collect();
    ranked.sort_by(|(a, left), (b, right)| a.total_cmp(b).then(left.id.cmp(&right.id)));
    let mut evicted = Vec::new();
    for (_, sleeper) in ranked {
        if held <= budget {
            break;
        }
        held -= sleeper.bytes;
        evicted.push(sleeper.id);
    }
    evicted
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
        Sleeper { id: n.into(), bytes: 50 * MIB, cold_start: 1.0, wakes: 1, last_used: Moment::START }
    }

    fn evict_at_ten(budget_mib: u64, sleepers: &[Sleeper]) -> Vec<ReplicaId> {
        evict(Moment::from_millis(10_000), budget_mib * MIB, sleepers)
    }

    #[test]
    fn nothing_goes_while_all_fit() {
        assert_eq!(evict_at_ten(100, &[sleeper(1), sleeper(2)]), []);
    }

    #[test]
    fn the_one_least_worth_keeping_goes_first() {
        let slow_to_start = Sleeper { cold_start: 4.0, ..sleeper(1) };
        let often_used = Sleeper { wakes: 9, ..sleeper(2) };
        let just_used = Sleeper { last_used: Moment::from_millis(9_000), ..sleeper(3) };
        let large = Sleeper { bytes: 200 * MIB, ..sleeper(4) };
        let all = [slow_to_start, often_used, just_used, sleeper(5), large];
        assert_eq!(evict_at_ten(200, &all), [large.id]);
        assert_eq!(evict_at_ten(150, &all), [large.id, sleeper(5).id]);
    }

    #[test]
    fn a_budget_of_nothing_keeps_nothing() {
        assert_eq!(evict_at_ten(0, &[sleeper(1), sleeper(2)]).len(), 2);
    }
}
