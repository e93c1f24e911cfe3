//! `bench gateway`: what moving a request costs, beside nginx and HAProxy, in front of the same backend.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::apps::App;
use crate::process;
use crate::server::Server;
use crate::stats::mebibytes;
use crate::table::Table;

/// The host that the peers are asked for: they have one app alone.
const APP: &str = "app.localhost";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program to measure
    #[arg(long, env = "MARMOT_BIN")]
    marmot: PathBuf,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Connections at the same time
    #[arg(long, value_delimiter = ',', default_values_t = [32, 256])]
    connections: Vec<u32>,
    /// Idle WebSockets to tell the memory of each: a proxy needs two descriptors for one
    #[arg(long, default_value_t = 1000)]
    websockets: usize,
}

/// Something that passes requests on.
struct Proxy {
    name: &'static str,
    pid: u32,
    port: u16,
    host: String,
}

/// What one measurement showed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Microseconds of the proxy's CPU time for each request.
    cpu: f64,
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// Measures all of them in turn and prints a table for each number of connections.
///
/// # Errors
/// When one of them cannot be started, or answers badly.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let files = tempfile::Builder::new().prefix("marmot-bench-gateway-").tempdir()?;
    let bench = std::env::current_exe()?;
    let ports = [free_port().await?, free_port().await?, free_port().await?];
    let _backend = keep(Command::new(&bench).args(["backend", "--port", &ports[0].to_string()]))?;
    let nginx_conf = files.path().join("nginx.conf");
    std::fs::write(&nginx_conf, nginx(ports[0], ports[1]))?;
    let mut nginx = keep(Command::new("nginx").arg("-c").arg(&nginx_conf).arg("-p").arg(files.path()))
        .context("nginx cannot be started")?;
    let haproxy_conf = files.path().join("haproxy.cfg");
    std::fs::write(&haproxy_conf, haproxy(ports[0], ports[2]))?;
    let mut haproxy =
        keep(Command::new("haproxy").arg("-f").arg(&haproxy_conf)).context("haproxy cannot be started")?;

    let peers = [
        Proxy { name: "nginx", pid: pid(&nginx)?, port: ports[1], host: APP.to_owned() },
        Proxy { name: "HAProxy", pid: pid(&haproxy)?, port: ports[2], host: APP.to_owned() },
    ];
    let measured = beside(options, &bench, files.path(), peers).await;
    // Asked to, so that they end their workers, too.
    terminate(&mut nginx).await?;
    terminate(&mut haproxy).await?;
    measured
}

/// Starts Marmot beside its peers and measures all of them.
async fn beside(options: &Options, bench: &Path, files: &Path, peers: [Proxy; 2]) -> anyhow::Result<()> {
    let server = Server::start(&options.marmot, &["--idle-after", "1h"]).await?;
    let token = server.token("ada").await?;
    let example = files.join("backend");
    std::fs::create_dir(&example)?;
    std::fs::copy(bench, example.join("backend"))?;
    std::fs::write(example.join("Procfile"), "web: ./backend backend\n")?;
    let app = App::deploy(&server, &token, &example).await?;
    let (host, port) = authority(&app.url)?;

    let [nginx, haproxy] = peers;
    let proxies = [nginx, haproxy, Proxy { name: "marmot", pid: server.pid()?, port, host }];
    println!("resident memory when idle: {}", idle(&proxies)?);
    for connections in &options.connections {
        compare(options, *connections, &proxies).await?;
    }
    websockets(options, &proxies).await?;
    println!("resident memory at the end: {}", idle(&proxies)?);
    server.stop().await
}

fn idle(proxies: &[Proxy]) -> anyhow::Result<String> {
    let each = proxies.iter().map(|proxy| Ok(format!("{} {} MiB", proxy.name, mebibytes(proxy.resident()?))));
    Ok(each.collect::<anyhow::Result<Vec<_>>>()?.join(", "))
}

async fn compare(options: &Options, connections: u32, proxies: &[Proxy]) -> anyhow::Result<()> {
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); proxies.len()];
    // In turn, so that what else the machine does meets all of them.
    for _ in 0..options.rounds {
        for (proxy, seen) in proxies.iter().zip(&mut seen) {
            seen.push(proxy.measure(connections, options.seconds).await?);
        }
    }
    let head = [
        &*format!("{connections} connections"),
        "CPU µs/request",
        "to nginx",
        "requests/s",
        "p50 ms",
        "p99 ms",
    ];
    let mut table = Table::new(&head);
    let cpu = |seen: &[Seen]| median(seen.iter().map(|seen| seen.cpu));
    let base = cpu(&seen[0]);
    for (proxy, seen) in proxies.iter().zip(&seen) {
        let millis = |of: fn(&Seen) -> Duration| median(seen.iter().map(|seen| of(seen).as_secs_f64() * 1e3));
        table.row([
            proxy.name.to_owned(),
            format!("{:.2}", cpu(seen)),
            format!("{:.2}", cpu(seen) / base),
            format!("{:.0}", median(seen.iter().map(|seen| seen.per_second))),
            format!("{:.2}", millis(|seen| seen.p50)),
            format!("{:.2}", millis(|seen| seen.p99)),
        ]);
    }
    println!("\n{table}");
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Proxy {
    async fn measure(&self, connections: u32, seconds: u32) -> anyhow::Result<Seen> {
        let before = self.cpu_time()?;
        let output = Command::new("wrk")
            .args(["--threads", "1", "--latency", "--header", &format!("Host: {}", self.host)])
            .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
            .arg(format!("http://127.0.0.1:{}/", self.port))
            .output()
            .await
            .context("wrk cannot be started")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let bad = output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors");
        ensure!(bad, "{} answered badly: {text}", self.name);
        let cpu = self.cpu_time()? - before;
        let after = |label: &str| -> anyhow::Result<&str> {
            let line = text.lines().find(|line| line.trim_start().starts_with(label));
            line.and_then(|line| line.split_whitespace().last()).with_context(|| format!("wrk: no {label}"))
        };
        let total = text.lines().find(|line| line.contains("requests in")).context("wrk: no requests")?;
        let requests: f64 = total.split_whitespace().next().context("wrk: no requests")?.parse()?;
        Ok(Seen {
            cpu: cpu.as_secs_f64() * 1e6 / requests,
            per_second: after("Requests/sec")?.parse()?,
            p50: duration(after("50%")?)?,
            p99: duration(after("99%")?)?,
        })
    }

    /// With its workers: nginx has some.
    fn pids(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = std::fs::read_to_string(path).unwrap_or_default();
        // Marmot's children are apps, and none of the proxy.
        let workers = children.split_whitespace().filter(|_| self.name != "marmot");
        workers.filter_map(|pid| pid.parse().ok()).chain([self.pid]).collect()
    }

    fn cpu_time(&self) -> anyhow::Result<Duration> {
        self.pids().into_iter().map(process::cpu_time).sum()
    }

    fn resident(&self) -> anyhow::Result<u64> {
        self.pids().into_iter().map(process::resident).sum()
    }
}

/// `1.23ms`, `45.6us`, `1.00s`, as wrk writes them.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
    let seconds = number("us")
        .map(|micros| micros / 1e6)
        .or_else(|| number("ms").map(|millis| millis / 1e3))
        .or_else(|| number("s"));
    Ok(Duration::from_secs_f64(seconds.with_context(|| format!("`{text}` is no duration"))?))
}

/// What each idle WebSocket costs.
async fn websockets(options: &Options, proxies: &[Proxy]) -> anyhow::Result<()> {
    let mut table = Table::new(&[&*format!("{} idle WebSockets", options.websockets), "KiB each"]);
    for proxy in proxies {
        let before = proxy.resident()?;
        let mut open = Vec::with_capacity(options.websockets);
        for _ in 0..options.websockets {
            open.push(websocket(proxy).await?);
        }
        let each = proxy.resident()?.saturating_sub(before) as f64 / options.websockets as f64 / 1024.0;
        table.row([proxy.name.to_owned(), format!("{each:.1}")]);
    }
    println!("\n{table}");
    Ok(())
}

async fn websocket(proxy: &Proxy) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        proxy.host
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    ensure!(answer.ends_with(b"101"), "{} opens no WebSocket", proxy.name);
    Ok(stream)
}

fn keep(command: &mut Command) -> std::io::Result<Child> {
    command.kill_on_drop(true).spawn()
}

async fn terminate(child: &mut Child) -> anyhow::Result<()> {
    Command::new("kill").arg(pid(child)?.to_string()).status().await?;
    child.wait().await?;
    Ok(())
}

fn pid(child: &Child) -> anyhow::Result<u32> {
    child.id().context("it has ended")
}

async fn free_port() -> anyhow::Result<u16> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

fn authority(url: &str) -> anyhow::Result<(String, u16)> {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let port = authority.rsplit_once(':').context("an address with a port")?.1.parse()?;
    Ok((authority.to_owned(), port))
}

/// As somebody would have it who cares: kept connections, and the headers that apps are told by us.
fn nginx(backend: u16, port: u16) -> String {
    format!(
        "worker_processes auto; daemon off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  map $http_upgrade $upgraded {{ default upgrade; '' ''; }}
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_read_timeout 1h;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded;
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"
    )
}

fn haproxy(backend: u16, port: u16) -> String {
    format!(
        "global
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  option forwardfor
  http-reuse safe
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
frontend all
  bind 127.0.0.1:{port}
  default_backend backend
backend backend
  server one 127.0.0.1:{backend}
"
    )
}
