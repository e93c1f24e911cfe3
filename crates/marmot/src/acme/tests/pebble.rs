//! A real certificate authority for tests: Pebble, by the people of Let's Encrypt, with a resolver that leads every host to
//! this machine.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use url::Url;

/// Nothing here takes this long unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Hosts that begin so are nowhere.
pub(crate) const NOWHERE: &str = "nowhere";
/// What it knows of customers, where it wants to know them.
pub(crate) const CUSTOMER: (&str, &str) =
    ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

/// A real authority, which ends with the test, and forgets everything with it.
pub(crate) struct Pebble {
    process: Option<Child>,
    dir: TempDir,
    port: Reserved,
    management: Reserved,
    resolver: SocketAddr,
    resolving: JoinHandle<()>,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.resolving.abort();
        self.stop();
    }
}

/// A port that nobody else is given, and that a program of ours may listen on: bound, and not listened on.
struct Reserved {
    _socket: rustix::fd::OwnedFd,
    port: u16,
}

impl Reserved {
    fn new() -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        Self { _socket: socket, port: address.port() }
    }
}

impl Pebble {
    /// One that looks at `gateway` for proofs of every kind. `None` where it is not installed; in CI it is.
    pub(crate) async fn start(gateway: SocketAddr, knows_customers: bool) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("pebble").is_file()) {
            assert!(std::env::var_os("CI").is_none(), "`cargo xtask setup` installs pebble");
            eprintln!("skipped: there is no `pebble` (`apt-get install pebble`)");
            return None;
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = socket.local_addr().unwrap();
        let dir = TempDir::new().unwrap();
        let (port, management) = (Reserved::new(), Reserved::new());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(dir.path().join("root.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", port.port),
            "managementListenAddress": format!("127.0.0.1:{}", management.port),
            "certificate": dir.path().join("root.pem"),
            "privateKey": dir.path().join("key.pem"),
            "httpPort": gateway.port(),
            "tlsPort": gateway.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": knows_customers,
            "externalAccountMACKeys": {CUSTOMER.0: CUSTOMER.1},
        }});
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let resolving = tokio::spawn(resolve(socket));
        let mut pebble = Self { process: None, dir, port, management, resolver, resolving };
        pebble.begin().await;
        Some(pebble)
    }

    /// Starts it, knowing nobody.
    pub(crate) async fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let process = Command::new("pebble")
            .arg("-config")
            .arg(self.dir.path().join("config.json"))
            .args(["-dnsserver", &self.resolver.to_string()])
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        for port in [self.port.port, self.management.port] {
            let listens = async {
                while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(LIMIT, listens).await.expect("pebble listens");
        }
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Gone already is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub(crate) fn directory(&self) -> Url {
        format!("https://localhost:{}/dir", self.port.port).parse().unwrap()
    }

    /// The file with what its own certificate is issued by.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// What trusts the certificates that it issues, and nothing else.
    pub(crate) async fn root(&self) -> reqwest::Certificate {
        let own = reqwest::Certificate::from_pem(&fs::read(self.root_file()).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([own]).timeout(LIMIT).build().unwrap();
        let url = format!("https://localhost:{}/roots/0", self.management.port);
        let pem = client.get(url).send().await.unwrap().bytes().await.unwrap();
        reqwest::Certificate::from_pem(&pem).unwrap()
    }

    /// How many orders it was asked for. It says so before it answers.
    pub(crate) fn orders(&self) -> usize {
        self.log().matches("POST /order-plz ->").count()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

/// Answers questions for addresses (RFC 1035): every host is this machine, but for those that are nowhere.
async fn resolve(socket: UdpSocket) {
    let mut question = [0; 512];
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut question).await else { return };
        // A head of twelve bytes, the name, and two bytes each of type and class.
        let Some(name_length) = question[12..length].iter().position(|byte| *byte == 0) else { continue };
        let asked = &question[12..12 + name_length + 5];
        let is_for_ipv4 = asked[name_length + 1..] == [0, 1, 0, 1];
        let is_nowhere = String::from_utf8_lossy(asked).to_lowercase().contains(NOWHERE);
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0]);
        answer.extend(asked);
        if is_for_ipv4 {
            // The name of the question, an address, for no time at all.
            answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1 + u8::from(is_nowhere)]);
        }
        let _ = socket.send_to(&answer, asker).await;
    }
}
