//! The average of a level over the last while, for many apps at once: an app nobody uses holds nothing and costs nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Moment;
use crate::demand::Load;

/// Two notes closer to each other than this are kept as one.
const GRAIN: Duration = Duration::from_millis(500);
/// An average is taken over at least this long, so that one page with twenty pictures is not twenty visitors.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// Remembers how a load grew. There is no tick: averages are exact however seldom it is asked, because what is noted is
/// the load's area.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// What was noted last, and when.
    last: Option<(Moment, Load)>,
    /// Area up to a moment, oldest first; one point lies before the longest stretch that is asked for.
    points: VecDeque<(Moment, u64)>,
}

impl Window {
    /// Notes the load at `now`; averages are asked for over at most `longest`.
    pub fn note(&mut self, now: Moment, load: Load, longest: Duration) {
        let (before, grown) = self.last.map_or((now, 0), |(at, last)| (at, load.rise(last)));
        self.last = Some((now, load));
        if load.level == 0 && grown == 0 && self.is_flat(now, longest) {
            self.points.clear();
            return;
        }
        // It was silent since it was last noted, as far as is known, and what was before that is forgotten.
        let (_, area) = *self.points.back().unwrap_or(&(before, 0));
        if self.points.is_empty() {
            self.points.push_back((before, area));
        }
        let close = self.points.len() >= 2
            && self.points.get(self.points.len() - 2).is_some_and(|(at, _)| now - *at < GRAIN);
        if close {
            self.points.pop_back();
        }
        self.points.push_back((now, area + grown));
        while self.points.get(1).is_some_and(|(at, _)| now - *at >= longest) {
            self.points.pop_front();
        }
    }

    /// The average over the last `span`, in thousandths.
    pub fn average(&self, now: Moment, span: Duration) -> u64 {
        let Some(&(_, area)) = self.points.back() else { return 0 };
        let span = span.max(SHORTEST);
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let grown = area.saturating_sub(self.area_at(now_less(now, span)));
        grown.saturating_mul(1000) / millis
    }

    /// Nothing came within the last `span`, as far as is known.
    fn is_flat(&self, now: Moment, span: Duration) -> bool {
        let (first, last) = (self.points.front(), self.points.back());
        first.zip(last).is_none_or(|(first, last)| first.1 == last.1 && now - first.0 >= span)
    }

    /// The area at a moment; between two notes it is taken to have grown evenly.
    fn area_at(&self, at: Moment) -> u64 {
        let after = self.points.partition_point(|(noted, _)| *noted <= at);
        match (after.checked_sub(1).and_then(|before| self.points.get(before)), self.points.get(after)) {
            (Some(&(from, low)), Some(&(to, high))) => {
                let (passed, whole) = ((at - from).as_millis(), (to - from).as_millis().max(1));
                low + u64::try_from(u128::from(high - low) * passed / whole).unwrap_or(u64::MAX)
            }
            (Some(&(_, area)), None) | (None, Some(&(_, area))) => area,
            (None, None) => 0,
        }
    }
}

fn now_less(now: Moment, span: Duration) -> Moment {
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Moment::from_millis(now.as_millis().saturating_sub(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    /// Notes a constant level from one second to another.
    fn constant(window: &mut Window, level: u64, from: u64, to: u64, area: &mut u64) {
        for second in from..=to {
            *area += if second == from { 0 } else { level * 1000 };
            window.note(at(second), Load { level, area: *area }, MINUTE);
        }
    }

    #[test]
    fn the_average_is_over_the_whole_span_however_short_the_load_was() {
        let (mut window, mut area) = (Window::default(), 0);
        constant(&mut window, 4, 100, 130, &mut area);
        assert_eq!(window.average(at(130), MINUTE), 2000);
        assert_eq!(window.average(at(130), Duration::from_secs(30)), 4000);
        constant(&mut window, 0, 130, 145, &mut area);
        assert_eq!(window.average(at(145), MINUTE), 2000);
        assert_eq!(window.average(at(145), Duration::from_secs(6)), 0);
        constant(&mut window, 0, 145, 175, &mut area);
        assert_eq!(window.average(at(175), MINUTE), 1000);
    }

    #[test]
    fn one_moment_of_much_is_not_a_load() {
        let mut window = Window::default();
        window.note(at(100), Load { level: 20, area: 0 }, MINUTE);
        window.note(Moment::from_millis(100_050), Load { level: 0, area: 1000 }, MINUTE);
        assert_eq!(window.average(Moment::from_millis(100_050), Duration::ZERO), 1000);
    }

    #[test]
    fn a_silent_app_holds_nothing() {
        let (mut window, mut area) = (Window::default(), 0);
        constant(&mut window, 2, 0, 10, &mut area);
        constant(&mut window, 0, 10, 71, &mut area);
        assert_eq!((window.points.len(), window.average(at(71), MINUTE)), (0, 0));
        constant(&mut window, 6, 500, 510, &mut area);
        assert_eq!(window.average(at(510), MINUTE), 1000);
    }

    #[test]
    fn what_came_and_went_between_two_looks_is_not_lost() {
        let mut window = Window::default();
        window.note(at(0), Load::default(), MINUTE);
        window.note(at(10), Load { level: 0, area: 5000 }, MINUTE);
        assert_eq!(window.average(at(10), Duration::from_secs(10)), 500);
    }

    #[test]
    fn it_stays_small_however_often_it_is_told() {
        let (mut window, mut area) = (Window::default(), 0);
        for millis in 0..200_000 {
            area += 3;
            window.note(Moment::from_millis(millis), Load { level: 3, area }, MINUTE);
        }
        assert!(window.points.len() <= 123, "{}", window.points.len());
        assert_eq!(window.average(Moment::from_millis(199_999), MINUTE), 3000);
    }
}
