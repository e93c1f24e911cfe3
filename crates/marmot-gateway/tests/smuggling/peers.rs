//! The same bytes through nginx and HAProxy, to have something to compare with.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::cases::corpus;
use crate::origin::Origin;
use crate::{Outcome, Verdict, judge, table};

/// nginx as somebody configures it who has read about it: claims of clients are overwritten, connections kept.
const NGINX: &str = "
daemon off; master_process off; pid DIR/pid; error_log DIR/error.log;
events { worker_connections 1000; }
http {
  access_log off; client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;
  client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s;
  upstream app { server ORIGIN; keepalive 8; }
  server {
    listen LISTEN; server_name iris.localhost;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Real-IP $remote_addr; proxy_set_header Forwarded \"\";
      proxy_set_header X-Marmot-User \"\"; proxy_set_header Expect \"\";
    }
  }
  server { listen LISTEN default_server; return 421; }
}";

/// The same for HAProxy.
const HAPROXY: &str = "
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 3s
  timeout http-request 1s
  timeout http-keep-alive 1s
frontend visitors
  bind LISTEN
  http-request deny deny_status 421 unless { hdr(host),field(1,:) -i iris.localhost }
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Real-IP %[src]
  http-request del-header Forwarded
  http-request del-header Expect
  http-request del-header X-Marmot-User
  default_backend app
backend app
  http-reuse safe
  server app ORIGIN
";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(
    program: &str,
    configuration: &str,
    arguments: &[&str],
    directory: &Path,
    origin: SocketAddr,
) -> (Running, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let configuration = configuration
        .replace("DIR", &directory.display().to_string())
        .replace("ORIGIN", &origin.to_string())
        .replace("LISTEN", &address.to_string());
    let file = directory.join("configuration");
    std::fs::write(&file, configuration).unwrap();
    let running =
        Command::new(program).args(arguments).arg(&file).stdin(Stdio::null()).spawn().map(Running).unwrap();
    let begun = std::time::Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < crate::LIMIT, "{program} does not listen");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    (running, address)
}

pub(crate) async fn judge_nginx() -> Vec<Verdict> {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    judge_peer("/usr/sbin/nginx", NGINX, &["-p", &place, "-c"], directory.path()).await
}

pub(crate) async fn judge_haproxy() -> Vec<Verdict> {
    let directory = tempfile::tempdir().unwrap();
    judge_peer("/usr/sbin/haproxy", HAPROXY, &["-q", "-f"], directory.path()).await
}

async fn judge_peer(
    program: &str,
    configuration: &str,
    arguments: &[&str],
    directory: &Path,
) -> Vec<Verdict> {
    let origin = Origin::start().await;
    let (_running, address) = start(program, configuration, arguments, directory, origin.address).await;
    let mut verdicts = Vec::new();
    for case in corpus() {
        verdicts.push(judge(address, &origin, case).await);
    }
    verdicts
}

/// A table for the documentation: of each family, how many end how, here and there.
pub(crate) fn side_by_side(all: &[(&str, Vec<Verdict>)]) -> String {
    const OUTCOMES: [&str; 6] = ["clean", "rejected", "lenient", "dirty", "desync", "hang"];
    let said = |counts: &[usize; 6]| {
        let counted = OUTCOMES.iter().zip(counts).filter(|(_, count)| **count > 0);
        counted.map(|(outcome, count)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
    };
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let mut text =
        format!("| family | cases | {} |\n|---|--:|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let tables: Vec<_> = all.iter().map(|(_, verdicts)| table(verdicts)).collect();
    let mut sums = vec![[0; 6]; all.len()];
    for (family, first) in &tables[0] {
        text += &format!("| {family} | {} |", first.iter().sum::<usize>());
        for (table, sum) in tables.iter().zip(&mut sums) {
            let counts = &table[family];
            text += &format!(" {} |", said(counts));
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        text += "\n";
    }
    text += &format!("| all | {} |", all[0].1.len());
    sums.iter().for_each(|sum| text += &format!(" {} |", said(sum)));
    text += "\n";
    for (name, verdicts) in all {
        for verdict in verdicts.iter().filter(|verdict| verdict.outcome > Outcome::Lenient) {
            text += &format!("{name} {:?}: {}\n", verdict.outcome, verdict.case.name);
        }
    }
    text
}
