//! A confined app's own network: the gateway gets in, nobody else does, and it reaches nothing of the machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/port.rs"]
mod port;
mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use marmot_engine::observed::ReplicaStage;
use port::Port;
use support::{Machine, ask, is_running, policy};

/// Prints what it could connect to.
const KNOCKS: &str = r#"
import os, socket
for target in os.environ["TARGETS"].split():
    host, port = target.rsplit(":", 1)
    try:
        if host == "abstract":
            socket.socket(socket.AF_UNIX).connect("\0" + port)
        else:
            socket.create_connection((host, int(port)), timeout=5)
    except OSError as error:
        print("refused:", target, error, flush=True)
    else:
        print("COULD:", target, flush=True)
"#;

#[tokio::test]
async fn two_replicas_listen_on_the_same_port_and_the_machine_has_none_of_it() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    // Nobody listens there meanwhile.
    let held = Port::hold();
    let port = held.number;
    machine.fixed_port(1, port);
    let old = machine.until_running().await;
    machine.fixed_port(2, port);
    let updated = |app: &marmot_engine::observed::ObservedApp| {
        app.replicas.iter().any(|replica| replica.id != old.id && is_running(replica))
    };
    let seen = machine.until("updated", updated).await;
    let new = seen.replicas.iter().find(|replica| replica.id != old.id).unwrap();
    let ReplicaStage::Running { address } = new.stage else { panic!("{new:?}") };
    assert_eq!(address.port(), port);
    let answer = ask(new).await;
    assert_eq!(answer.env["PORT"], port.to_string());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "no port shows on the machine");
}

#[tokio::test]
async fn an_app_reaches_nothing_that_listens_on_the_machine() {
    let Some(machine) = Machine::confined(|config| config).await else { return };
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let _six = TcpListener::bind(("::1", port));
    let name = format!("marmot-test-{}", std::process::id());
    let hidden = SocketAddr::from_abstract_name(&name).unwrap();
    let _hidden = UnixListener::bind_addr(&hidden).unwrap();
    let mut targets = vec![format!("127.0.0.1:{port}"), format!("::1:{port}"), format!("abstract:{name}")];
    targets.extend(support::own_addresses().iter().map(|address| format!("{address}:{port}")));
    targets.push("169.254.169.254:80".to_owned());
    machine.artefact(1.into(), &[("app.py", &format!("{KNOCKS}{}", support::COUNTER))], None);
    let variable = marmot_engine::wanted::Variable { name: "TARGETS".to_owned(), value: targets.join(" ") };
    machine.activate_with(1, &["python3", "app.py"], policy(), vec![variable]);
    let answer = ask(&machine.until_running().await).await;
    assert_eq!(answer.count, 1);
    let logs = machine.logs_at_work(100).await;
    let lines: Vec<String> = logs.into_values().flatten().collect();
    let refused = lines.iter().filter(|line| line.contains(" refused: ")).count();
    assert_eq!(refused, targets.len(), "{lines:#?}");
}
