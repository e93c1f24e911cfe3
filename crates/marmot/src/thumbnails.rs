//! Takes pictures of apps that are awake anyway, one after the other, and makes them small.
//!
//! Taking one wakes nobody and keeps nobody awake: the engine's browser is led to the replica past the gateway, so it
//! counts as no visit, and a replica that falls asleep meanwhile gives no picture.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ImageFormat, ImageReader, Limits};
use jiff::Timestamp;
use marmot_core::AppName;
use marmot_core::id::RevisionId;
use marmot_engine::observed::{ObservedReplica, ReplicaStage};
use marmot_engine::{Observed, Photographer, picture};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::service::Service;

/// Size of what is kept, in pixels.
const SMALL: (u32, u32) = (400, 250);
/// What is kept is no longer than that, in bytes.
const SMALL_BYTES: usize = 60_000;
/// What a page needs to be decoded, and some more.
const DECODING_BYTES: u64 = 32 << 20;
/// How often it is looked for pictures that are old, and for those of launchers that are gone.
const LOOK: Duration = Duration::from_secs(600);

/// What was last tried of each app.
type Tried = BTreeMap<AppName, (RevisionId, Instant)>;

/// Takes pictures until `stop`.
pub(crate) async fn take(
    service: Service,
    photographer: Arc<Photographer>,
    mut observed: watch::Receiver<Arc<Observed>>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut tried = Tried::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        let now = Arc::clone(&observed.borrow_and_update());
        tried.retain(|app, _| now.apps.contains_key(app));
        if let Some((app, replica)) = due(&now, &tried, every) {
            tried.insert(app.clone(), (replica.revision, Instant::now()));
            if let Err(why) = take_one(&service, &photographer, &app, &replica, every, &stop).await {
                tracing::info!(%app, "there is no new picture of an app: {why:#}");
            }
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = observed.changed() => if changed.is_err() { return },
            _ = look.tick() => if let Err(error) = service.sweep_pictures().await {
                tracing::warn!(%error, "cannot look for pictures of apps that are gone; will try again");
            },
        }
    }
}

/// An app that is awake and was not tried for long enough, and the newest of its replicas.
fn due(now: &Observed, tried: &Tried, every: Duration) -> Option<(AppName, ObservedReplica)> {
    now.apps.iter().find_map(|(app, seen)| {
        let awake = |replica: &&ObservedReplica| matches!(replica.stage, ReplicaStage::Running { .. });
        let replica = seen.replicas.iter().rev().find(awake)?;
        let recent = tried
            .get(app)
            .is_some_and(|(revision, at)| *revision == replica.revision && at.elapsed() < every);
        (!recent).then(|| (app.clone(), replica.clone()))
    })
}

async fn take_one(
    service: &Service,
    photographer: &Photographer,
    app: &AppName,
    replica: &ObservedReplica,
    every: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(launcher) = service.launcher_named(app).await? else { return Ok(()) };
    let ReplicaStage::Running { address } = replica.stage else { return Ok(()) };
    // An earlier server may have taken it.
    let made = replica.revision.drawn_at_ms();
    let fresh = |taken: Timestamp| {
        let age = Duration::try_from(Timestamp::now().duration_since(taken)).unwrap_or_default();
        taken.as_millisecond() > made && age < every
    };
    if service.picture_taken(launcher.id).flatten().is_some_and(fresh) {
        return Ok(());
    }
    let url = service.options().app_url(app);
    let png = photographer.take(&url, replica.sockets.clone(), address, stop).await?;
    let jpeg = tokio::task::spawn_blocking(move || small(&png)).await??;
    service.keep_picture(launcher.id, &jpeg)?;
    Ok(())
}

/// The picture as it is kept. What comes from the browser may be anything.
fn small(png: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(picture::SIZE.0), Some(picture::SIZE.1));
    limits.max_alloc = Some(DECODING_BYTES);
    reader.limits(limits);
    let small = reader.decode()?.resize_exact(SMALL.0, SMALL.1, FilterType::Triangle).into_rgb8();
    let mut jpeg = Vec::new();
    for quality in [80, 60, 40, 20] {
        jpeg.clear();
        JpegEncoder::new_with_quality(&mut jpeg, quality).encode_image(&small)?;
        if jpeg.len() <= SMALL_BYTES {
            return Ok(jpeg);
        }
    }
    anyhow::bail!("it cannot be made smaller than {SMALL_BYTES} bytes")
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, RgbImage};

    use super::*;

    fn png(width: u32, height: u32, colour: impl Fn(u32, u32) -> Rgb<u8>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = DynamicImage::from(RgbImage::from_fn(width, height, colour));
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_picture_is_made_small_and_what_is_none_or_larger_than_a_page_is_refused() {
        let noise = |x: u32, y: u32| {
            let mixed = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519).rotate_left(13);
            Rgb([(mixed >> 8) as u8, (mixed >> 16) as u8, (mixed >> 24) as u8])
        };
        let jpeg = small(&png(1200, 750, noise)).unwrap();
        assert!(jpeg.len() <= SMALL_BYTES);
        let again = image::load_from_memory(&jpeg).unwrap();
        assert_eq!((again.width(), again.height()), SMALL);
        assert!(small(&png(1201, 750, |_, _| Rgb([1, 2, 3]))).is_err(), "wider than any page");
        assert!(small(b"<svg xmlns='http://www.w3.org/2000/svg'/>").is_err());
        assert!(small(&png(1200, 750, |_, _| Rgb([1, 2, 3]))[..80]).is_err(), "cut off");
    }
}
