//! What is said to the browser that takes pictures, in its own protocol (DevTools, over two pipes): go to a page, refuse
//! whatever it asks, and show it once it is drawn. What comes back may be anything.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

use super::{LONGEST, NoPicture, SIZE};

/// What the browser is asked by, and what it answers by, in the directory of pipes.
pub(super) const ASKED: &str = "asked";
pub(super) const TOLD: &str = "told";

/// A page is looked at for so long after the browser was sent there, at most.
const LOOKS_FOR: Duration = Duration::from_secs(15);
/// A page that is not loaded by then is looked at all the same.
const LOADS_FOR: Duration = Duration::from_secs(8);
/// Scripts that draw after the page was loaded have so long to begin.
const AT_LEAST: Duration = Duration::from_secs(5);
/// It is looked at again after that.
const EACH: Duration = Duration::from_secs(1);
/// It is drawn when it looks the same so many times more.
const SAME: u32 = 2;
/// A picture of so few bytes has hardly anything on it yet: what comes by a connection is waited for.
const HARDLY_ANYTHING: usize = 9 << 10;
/// Longest message: a picture in letters, and what is around it.
const MESSAGE_BYTES: usize = LONGEST / 3 * 4 + (64 << 10);

/// A browser that is talked to.
#[derive(Debug)]
pub(super) struct Looking {
    asked: pipe::Sender,
    told: pipe::Receiver,
    /// What has come of the next message.
    unread: Vec<u8>,
    last: u64,
    session: Option<String>,
    loaded: bool,
}

/// What the page last looked like.
#[derive(Debug, Default)]
struct Seen {
    picture: Vec<u8>,
    same: u32,
}

impl Looking {
    /// Opened for both ways, so that neither side waits for the other, nor ends before it has begun.
    pub(super) fn by(pipes: &Path) -> io::Result<Self> {
        let asked = pipe::OpenOptions::new().read_write(true).open_sender(pipes.join(ASKED))?;
        let told = pipe::OpenOptions::new().read_write(true).open_receiver(pipes.join(TOLD))?;
        Ok(Self { asked, told, unread: Vec::new(), last: 0, session: None, loaded: false })
    }

    /// Sends the browser to `url` and returns what is there, as PNG.
    pub(super) async fn at(&mut self, url: &str) -> Result<Vec<u8>, NoPicture> {
        let (width, height) = SIZE;
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attached = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attached).await?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        self.call("Page.enable", json!({})).await?;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await?;
        // Answered once it is there, which a page can put off by a question.
        self.ask("Page.navigate", json!({ "url": url })).await?;
        let mut seen = Seen::default();
        if let Ok(Err(error)) = timeout(LOOKS_FOR, self.watch(&mut seen)).await {
            return Err(error);
        }
        if seen.picture.is_empty() { Err(NoPicture::Nothing) } else { Ok(seen.picture) }
    }

    /// Looks until the page stays as it is.
    async fn watch(&mut self, seen: &mut Seen) -> Result<(), NoPicture> {
        let by = Instant::now() + LOADS_FOR;
        while !self.loaded {
            let Ok(message) = timeout_at(by, self.next()).await else { break };
            self.heard(&message?).await?;
        }
        let since = Instant::now();
        loop {
            let next = Instant::now() + EACH;
            while let Ok(message) = timeout_at(next, self.next()).await {
                self.heard(&message?).await?;
            }
            let shown = self.call("Page.captureScreenshot", json!({ "format": "png" })).await?;
            let picture = shown["data"].as_str().and_then(|data| BASE64.decode(data).ok());
            let picture = picture.ok_or(NoPicture::Nothing)?;
            seen.same = if picture == seen.picture { seen.same + 1 } else { 0 };
            seen.picture = picture;
            if seen.same >= SAME && since.elapsed() >= AT_LEAST && seen.picture.len() > HARDLY_ANYTHING {
                return Ok(());
            }
        }
    }

    /// What the browser answers; what it tells meanwhile is heard.
    async fn call(&mut self, method: &str, about: Value) -> Result<Value, NoPicture> {
        let number = self.ask(method, about).await?;
        loop {
            let mut message = self.next().await?;
            if message["id"].as_u64() != Some(number) {
                self.heard(&message).await?;
            } else if message.get("error").is_some() {
                return Err(NoPicture::Nothing);
            } else {
                return Ok(message["result"].take());
            }
        }
    }

    async fn ask(&mut self, method: &str, about: Value) -> Result<u64, NoPicture> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": about });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.asked.write_all(&bytes).await?;
        Ok(self.last)
    }

    async fn heard(&mut self, message: &Value) -> Result<(), NoPicture> {
        match message["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded = true,
            // `alert`, `confirm` and the like hold a page up until somebody answers.
            Some("Page.javascriptDialogOpening") => {
                self.ask("Page.handleJavaScriptDialog", json!({ "accept": false })).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The next message. Nothing is lost when it is not waited for any more.
    async fn next(&mut self) -> Result<Value, NoPicture> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..].iter().position(|byte| *byte == 0) {
                let rest = self.unread.split_off(searched + end + 1);
                let mut message = std::mem::replace(&mut self.unread, rest);
                message.pop();
                return serde_json::from_slice(&message).map_err(|_| NoPicture::Nothing);
            }
            searched = self.unread.len();
            if searched > MESSAGE_BYTES {
                return Err(NoPicture::TooLong);
            }
            self.told.readable().await?;
            match self.told.try_read_buf(&mut self.unread) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
        }
    }
}
