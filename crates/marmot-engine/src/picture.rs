//! Pictures of apps: what a browser shows of one that is awake. The page is an app's, so the browser is taken for hostile.
//!
//! It is confined as an app is, in a network of its own in which nothing is but one listening socket. The browser's
//! supervisor makes that socket inside; the server accepts what comes and leads it to one replica, and to nothing else. It
//! writes to memory alone, and is talked to by two pipes ([`looking`]).

mod looking;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::looking::{ASKED, Looking, TOLD};
use crate::cgroup::{Groups, ReplicaGroup};
use crate::config::ShimCommand;
use crate::confine::{Confiner, Inside, Network};
use crate::files;
use crate::shim::spec::{self, Launch, Private, Spec};
use crate::sockets::Sockets;
use crate::wanted::Limits;

/// Size of a picture in pixels: width and height.
pub const SIZE: (u32, u32) = (1200, 750);

/// The browser is ended by then, whatever it does, and whether or not there is still a server.
const BROWSES_FOR: &str = "25";
/// Everything is over by then.
const WITHIN: Duration = Duration::from_secs(35);
/// Ended processes are gone within that, unless the kernel is stuck.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Longest picture, in bytes.
const LONGEST: usize = 8 << 20;
/// What the browser may use, where the machine can limit it.
const LIMITS: Limits = Limits { memory_bytes: 1 << 30, cpu_millis: 100 };
/// Connections that a page may have open.
const CONNECTIONS: usize = 64;
/// The supervisor tells nobody that it hands out sockets: it is asked again after that.
const AGAIN: Duration = Duration::from_millis(20);

/// Waits until there is something to look at, and looks as it is told by the pipes.
const SCRIPT: &str = "pipes=$1; shift; read -r go < \"$pipes/go\" || exit 1; cd /dev/shm || exit 1; \
    exec timeout -s KILL \"$0\" nice -n 19 \"$@\" 3< \"$pipes/asked\" 4> \"$pipes/told\" > /dev/null 2>&1";

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum NoPicture {
    /// The page's address is none.
    #[error("the app's address is not one that a browser could open")]
    Address,
    /// The browser could not be started.
    #[error("the browser could not be started: {0}")]
    NotStarted(#[from] io::Error),
    /// The browser ended without one.
    #[error("the browser showed nothing within {BROWSES_FOR} seconds, or is no Chromium")]
    Nothing,
    /// It was not waited for.
    #[error("the server stops")]
    Stopped,
    /// It is larger than any.
    #[error("the browser gave more than {} MiB", LONGEST >> 20)]
    TooLong,
}

/// Takes pictures of apps, one at a time.
#[derive(Debug)]
pub struct Photographer {
    browser: PathBuf,
    dir: PathBuf,
    shim: ShimCommand,
    groups: Groups,
    confiner: Confiner,
    /// The user that the browser is, where it can be one of its own.
    user: Option<u32>,
    one: Mutex<()>,
}

/// What there is of a browser while it runs; all of it goes with this.
struct Sitting<'a> {
    dir: &'a Path,
    group: ReplicaGroup,
}

impl Sitting<'_> {
    /// Ends what still runs, and waits until it is gone.
    async fn end(&self) {
        self.group.kill();
        let _ = tokio::time::timeout(GONE_WITHIN, self.group.emptied()).await;
    }
}

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        self.group.kill();
        self.group.remove();
        // What is left is removed by the next one.
        let _ = files::remove(self.dir);
    }
}

impl Photographer {
    pub(crate) fn new(
        browser: PathBuf,
        data_dir: &Path,
        shim: ShimCommand,
        groups: Groups,
        confiner: Confiner,
        user: Option<u32>,
    ) -> Self {
        Self { browser, dir: data_dir.join("browser"), shim, groups, confiner, user, one: Mutex::default() }
    }

    /// A picture of the page at `url` as PNG, untouched as the browser gave it. `url`: how the app is asked, wherever that
    /// leads elsewhere; `sockets` and `address`: where its replica listens.
    ///
    /// `stop`: ends the browser before it is done.
    ///
    /// # Errors
    /// See [`NoPicture`].
    pub async fn take(
        &self,
        url: &str,
        sockets: Option<Arc<Sockets>>,
        address: SocketAddr,
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, NoPicture> {
        let _one = self.one.lock().await;
        let mut url: Url = url.parse().map_err(|_| NoPicture::Address)?;
        // A replica speaks plain HTTP.
        let port = if url.scheme() == "http" { url.port_or_known_default() } else { Some(80) };
        let port = port.ok_or(NoPicture::Address)?;
        url.set_scheme("http")
            .and_then(|()| url.set_port(Some(port)).map_err(drop))
            .map_err(|()| NoPicture::Address)?;
        self.sit(&url, port, sockets, address, stop).await
    }

    async fn sit(
        &self,
        url: &Url,
        port: u16,
        sockets: Option<Arc<Sockets>>,
        address: SocketAddr,
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, NoPicture> {
        let pipes = self.dir.join("pipes");
        files::remove(&self.dir)?;
        files::make_passage(&self.dir)?;
        files::make_passage(&pipes)?;
        for name in ["go", ASKED, TOLD] {
            let path = pipes.join(name);
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .map_err(io::Error::from)?;
            if let Some(user) = self.user {
                std::os::unix::fs::chown(&path, Some(user), Some(user))?;
            }
        }
        let sitting = Sitting { dir: &self.dir, group: self.groups.create_for_browser(LIMITS)? };
        let (spec, private) = self.spec(port, &pipes, sitting.group.clone());
        spec::write(&self.dir, spec::SPEC, &spec)?;
        let look = self.look(url, &pipes, port, &private, sockets, address);
        let taken = tokio::select! {
            () = stop.cancelled() => Err(NoPicture::Stopped),
            taken = tokio::time::timeout(WITHIN, look) => taken.unwrap_or(Err(NoPicture::Nothing)),
        };
        sitting.end().await;
        taken
    }

    /// Runs the browser, and leads it to the replica, until it has shown what is there.
    async fn look(
        &self,
        url: &Url,
        pipes: &Path,
        port: u16,
        private: &Private,
        sockets: Option<Arc<Sockets>>,
        address: SocketAddr,
    ) -> Result<Vec<u8>, NoPicture> {
        let mut looking = Looking::by(pipes)?;
        let mut go = pipe::OpenOptions::new().read_write(true).open_sender(pipes.join("go"))?;
        let mut command = tokio::process::Command::new(&self.shim.program);
        command.args(&self.shim.args).arg(&self.dir).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(private.to_memory()?).stdout(Stdio::null()).stderr(Stdio::null());
        let mut browser = command.spawn()?;
        let work = async {
            let listener = listen(&Sockets::of(self.dir.clone()), port).await?;
            go.write_all(b"go\n").await?;
            lead(&listener, sockets.as_deref(), address).await
        };
        let bytes = tokio::select! {
            bytes = looking.at(url.as_str()) => bytes?,
            ended = browser.wait() => {
                ended?;
                return Err(NoPicture::Nothing);
            }
            led = work => {
                led?;
                return Err(NoPicture::Nothing);
            }
        };
        if bytes.len() > LONGEST { Err(NoPicture::TooLong) } else { Ok(bytes) }
    }

    fn spec(&self, port: u16, pipes: &Path, group: ReplicaGroup) -> (Spec, Private) {
        let mut argv = ["/bin/sh", "-c", SCRIPT, BROWSES_FOR].map(str::to_owned).to_vec();
        argv.extend([pipes, &self.browser].map(|path| path.to_string_lossy().into_owned()));
        // Its own sandbox needs user namespaces, which nothing may make inside.
        argv.extend(
            [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-extensions",
                "--hide-scrollbars",
                "--mute-audio",
                // Whatever a page names is where nobody but the app listens.
                "--host-resolver-rules=MAP * 127.0.0.1",
                "--user-data-dir=/dev/shm/profile",
                "--remote-debugging-pipe",
            ]
            .map(str::to_owned),
        );
        argv.push(format!("--window-size={},{}", SIZE.0, SIZE.1));
        argv.push("about:blank".to_owned());
        let reads = [pipes.to_owned()];
        let directory = Path::new("/");
        let sandbox = self.confiner.sandbox(&Inside {
            user: self.user,
            own: &[],
            reads: &reads,
            names: None,
            resolv_conf: None,
            directory,
            network: Network::Made,
        });
        let marker = ("MARMOT_PICTURE".to_owned(), ulid::Ulid::generate().to_string());
        let spec = Spec {
            revision: String::new(),
            port,
            per_replica: 1,
            counts_sessions: false,
            memory_limit: LIMITS.memory_bytes,
            marker: format!("{}={}", marker.0, marker.1),
            user: self.user,
            group,
            launch: Launch {
                argv,
                directory: directory.to_owned(),
                sandbox: Some(sandbox),
                log_bytes: 64 << 10,
            },
            container: None,
        };
        let variables =
            [("HOME", "/dev/shm"), ("TMPDIR", "/dev/shm"), ("PATH", "/usr/bin:/bin"), ("LC_ALL", "C.UTF-8")];
        let mut env: std::collections::BTreeMap<_, _> =
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        env.extend([marker]);
        (spec, Private { env, ..Private::default() })
    }
}

/// Listens at `port` in the network that `sockets` are of, once there is one.
async fn listen(sockets: &Arc<Sockets>, port: u16) -> io::Result<TcpListener> {
    let socket = loop {
        match sockets.open().await {
            Ok(socket) => break TcpSocket::from_std_stream(socket.into()),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(128)
}

/// Leads every connection to the replica, as long as somebody waits for it.
async fn lead(listener: &TcpListener, sockets: Option<&Sockets>, address: SocketAddr) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut led = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let (mut inside, _) = listener.accept().await?;
        while led.try_join_next().is_some() {}
        let replica = match sockets {
            Some(sockets) => TcpSocket::from_std_stream(sockets.open().await?.into()).connect(address).await,
            None => TcpStream::connect(address).await,
        };
        // One that cannot be led is closed: the page shows what it then shows.
        let Ok(mut replica) = replica else { continue };
        led.spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut inside, &mut replica).await;
            drop(place);
        });
    }
}
