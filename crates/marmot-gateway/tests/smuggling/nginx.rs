//! The same bytes through nginx, to have something to compare with.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::cases::corpus;
use crate::origin::Origin;
use crate::{Outcome, Verdict, judge, table};

/// nginx as somebody configures it who has read about it: claims of clients are overwritten, connections kept.
const CONFIGURATION: &str = "
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

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(program: &OsStr, directory: &Path, origin: SocketAddr) -> (Nginx, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let configuration = CONFIGURATION
        .replace("DIR", &directory.display().to_string())
        .replace("ORIGIN", &origin.to_string())
        .replace("LISTEN", &address.to_string());
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let nginx = Command::new(program)
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(directory)
        .stdin(Stdio::null())
        .spawn()
        .map(Nginx)
        .unwrap();
    let begun = std::time::Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < crate::LIMIT, "nginx does not listen");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    (nginx, address)
}

pub(crate) async fn judge_nginx(program: &OsStr) -> Vec<Verdict> {
    let directory = tempfile::tempdir().unwrap();
    let origin = Origin::start().await;
    let (_nginx, address) = start(program, directory.path(), origin.address).await;
    let mut verdicts = Vec::new();
    for case in corpus() {
        verdicts.push(judge(address, &origin, case).await);
    }
    verdicts
}

/// A table for the documentation: of each family, how many end how, here and there.
pub(crate) fn side_by_side(ours: &[Verdict], theirs: &[Verdict]) -> String {
    const OUTCOMES: [&str; 6] = ["clean", "rejected", "lenient", "dirty", "desync", "hang"];
    let said = |counts: &[usize; 6]| {
        let said: Vec<String> = OUTCOMES
            .iter()
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        said.join(", ")
    };
    let (ours_by_family, theirs_by_family) = (table(ours), table(theirs));
    let mut text = String::from("| family | cases | Marmot | nginx |\n|---|--:|---|---|\n");
    let mut sums = ([0; 6], [0; 6]);
    for (family, counts) in &ours_by_family {
        let others = &theirs_by_family[family];
        let cases: usize = counts.iter().sum();
        text += &format!("| {family} | {cases} | {} | {} |\n", said(counts), said(others));
        for outcome in 0..6 {
            sums.0[outcome] += counts[outcome];
            sums.1[outcome] += others[outcome];
        }
    }
    text += &format!("| all | {} | {} | {} |\n", ours.len(), said(&sums.0), said(&sums.1));
    for verdict in theirs.iter().filter(|verdict| verdict.outcome > Outcome::Lenient) {
        text += &format!("nginx {:?}: {}\n", verdict.outcome, verdict.case.name);
    }
    text
}
