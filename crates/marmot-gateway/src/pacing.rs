//! How slowly a client may send the body of one request over HTTP/2, where the bytes of the connection are those of many.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::scanner::Phase;
use crate::wire::{Pace, Patience, Timer};

/// What is known of one body. Only the time counts for which it was waited for: the app may take as long as it likes.
#[derive(Debug)]
pub(crate) struct Pacing {
    pace: Pace,
    timer: Timer,
    patience: Patience,
    /// How long nothing at all may come.
    stall: Duration,
}

impl Pacing {
    pub(crate) fn of(limits: &Limits) -> Self {
        let patience = Patience::of(limits);
        Self { pace: Pace::default(), timer: Timer::default(), patience, stall: limits.stall_timeout }
    }

    /// It is waited for, by somebody who looks at the clock.
    pub(crate) fn begin(&mut self) {
        self.pace.wait(Instant::now());
    }

    /// It is waited for. Ready: for too long.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.begin();
        self.timer.poll(cx, Phase::Body, self.stall)
    }

    /// This many bytes have come. False: too few for the time that they took.
    pub(crate) fn came(&mut self, bytes: usize) -> bool {
        self.timer.begin();
        self.pace.came(bytes, &self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_is_waited_for_so_long_and_who_drips_not_much_longer() {
        let limits = Limits::default();
        let mut pacing = Pacing::of(&limits);
        let begin = Instant::now();
        poll_fn(|cx| pacing.wait(cx)).await;
        assert_eq!(begin.elapsed(), limits.stall_timeout);

        let mut pacing = Pacing::of(&limits);
        let mut seconds = 0;
        while pacing.came(1) {
            assert!(poll_fn(|cx| Poll::Ready(pacing.wait(cx).is_pending())).await);
            tokio::time::advance(Duration::from_secs(1)).await;
            seconds += 1;
        }
        assert_eq!(seconds, 11);

        // An app that takes its time is not the client's doing.
        let mut pacing = Pacing::of(&limits);
        for _ in 0..100 {
            tokio::time::advance(limits.stall_timeout).await;
            assert!(pacing.came(1));
        }
    }
}
