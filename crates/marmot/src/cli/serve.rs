//! Runs a server until it is told to stop: logs, signals, the socket, and what is printed for people.

use std::io::{IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use marmot_gateway::Listeners;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::handover::{self, Successor};
use super::{Demo, Hinted};
use crate::config::{Flags, LogFormat, Settings, Sources};
use crate::server::{Replicas, Server};
use crate::{demo, web};

/// `marmot serve`
pub(super) fn serve(flags: Flags) -> anyhow::Result<()> {
    let inherited = handover::inherited().context("cannot take over the listening sockets")?;
    let (settings, sources) = flags.resolve()?;
    start_logs(&settings, &sources)?;
    leave_no_dumps();
    let successor = runtime()?.block_on(async {
        let (stop, restart) = (stop_signal()?, restart_signal()?);
        let sockets = if inherited.is_empty() { listen(settings.listen)? } else { inherited };
        let address = local_address(&sockets)?;
        let successor = Successor::new(&sockets).context("cannot keep the listening sockets")?;
        let making_room = restart.clone();
        let stopping = stop.clone();
        tokio::spawn(async move {
            making_room.cancelled().await;
            tracing::info!("making room for the next server");
            stopping.cancel();
        });
        let server = Server::start(&settings, sockets, None, stop).await?;
        let url = settings.public_url(address);
        tracing::info!(%url, listen = %address, "Marmot is ready");
        // For people, and for programs that let the server choose its port.
        // Whoever read it from the server before may have stopped to.
        let _ = writeln!(std::io::stdout(), "Marmot is at {url}");
        // Alone on its line, and not in the log, which others may read: whoever has it makes the first account.
        if let Some(link) = server.service().set_up_link().await? {
            let _ = writeln!(
                std::io::stdout(),
                "Make the first administrator's account there: {}",
                link.reveal()
            );
        }
        server.run(|| if restart.is_cancelled() { Replicas::Keep } else { Replicas::AsSet }).await?;
        anyhow::Ok(restart.is_cancelled().then_some(successor))
    })?;
    match successor {
        Some(successor) => Err(successor.take_over()).context("cannot start the next server"),
        None => Ok(()),
    }
}

/// Sees to it that the memory of this program, with keys and secrets in it, ends on no disk if it crashes, and that no other
/// program of the same user reads it. What it starts decides for itself: apps may be debugged.
fn leave_no_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let limited = setrlimit(Resource::Core, none);
    // The limit alone is not enough where dumps are piped to a program of the host's.
    let closed = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    for error in [limited, closed].into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "if the server crashes, its memory may be written to a disk");
    }
}

/// `marmot demo`
pub(super) fn demo(asked: Demo) -> anyhow::Result<()> {
    let throw_away = tempfile::Builder::new().prefix("marmot-demo-").tempdir();
    let throw_away = throw_away.context("cannot make a throw-away data directory")?;
    let flags = asked
        .flags
        .or("data_dir", throw_away.path().to_string_lossy())
        .or("allow_local_repositories", "true")
        .or("replicas_on_stop", "stop")
        .or("log", "warn");
    let (settings, sources) = flags.resolve()?;
    start_logs(&settings, &sources)?;
    leave_no_dumps();
    runtime()?.block_on(async {
        let stop = stop_signal()?;
        let sockets = listen(settings.listen)?;
        let address = local_address(&sockets)?;
        let visitor = web::Demo { code: demo::sign_in_code(), username: demo::username() };
        let code = visitor.code.clone();
        let server = Server::start(&settings, sockets, Some(visitor), stop).await?;
        let apps = demo::seed(server.service(), &asked.examples, &settings.data_dir()?).await?;
        println!("Marmot serves {} example apps. Open this link, which signs you in:\n", apps.len());
        println!("    {}/demo/{}\n", settings.public_url(address), code.reveal());
        println!("They are being built; the first time takes a minute or two. Ctrl-C stops everything.");
        server.run(|| Replicas::AsSet).await
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the server's threads")
}

/// Logs go to the standard error: what is printed stays readable for programs.
fn start_logs(settings: &Settings, sources: &Sources) -> anyhow::Result<()> {
    let filter =
        tracing_subscriber::EnvFilter::builder().parse(&settings.log.0).context("cannot read `log`")?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    settings.warnings(sources).iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(())
}

/// One socket for each core, so that all of them can be handed over.
fn listen(address: SocketAddr) -> anyhow::Result<Vec<TcpListener>> {
    let first = TcpListener::bind(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there: stop it, or choose another `--listen`"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges: choose another `--listen`"
            }
            _ => "choose another `--listen`: an address of this machine, and a port",
        };
        anyhow::Error::new(error).context(Hinted::new(format!("cannot listen on {address}"), hint))
    })?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spread = Listeners::from(first).spread(cores).context("cannot listen on every core")?;
    Ok(spread.into_iter().flatten().collect())
}

fn local_address(sockets: &[TcpListener]) -> anyhow::Result<SocketAddr> {
    let first = sockets.first().context("there is no socket to listen on")?;
    first.local_addr().context("cannot tell where the server listens")
}

/// Cancelled by SIGUSR2: the server is to make room for the next one.
fn restart_signal() -> anyhow::Result<CancellationToken> {
    let mut asked = signal(SignalKind::user_defined2()).context("cannot wait for signals")?;
    let restart = CancellationToken::new();
    let told = restart.clone();
    tokio::spawn(async move {
        asked.recv().await;
        told.cancel();
    });
    Ok(restart)
}

/// Cancelled by the first SIGTERM or SIGINT. A second one ends the process at once.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("stopping; once more stops at once");
        told.cancel();
        next().await;
        // Somebody insists: whoever waits for requests under way would wait in vain.
        std::process::exit(130);
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_server_that_crashes_leaves_nothing_on_a_disk() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        super::leave_no_dumps();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
