//! A gateway alone, with one app at a fixed address: to profile it without the rest of a server.
//!
//! `cargo run --release -p marmot-gateway --example relay -- LISTEN BACKEND`, then ask for `http://app.localhost:PORT`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use marmot_core::id::ReplicaId;
use marmot_core::{Clock, Gate, Moment};
use marmot_gateway::routes::{Access, Backend, Progress, Route, RouteState, Routes, Step, Traffic};
use marmot_gateway::{Gateway, GatewayConfig, Tickets};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut address = || {
        arguments
            .next()
            .ok_or("usage: relay LISTEN BACKEND")?
            .parse::<SocketAddr>()
            .map_err(Box::<dyn std::error::Error>::from)
    };
    let (listen, backend) = (address()?, address()?);
    let gate = Arc::new(Gate::new(1_000_000));
    gate.open();
    let progress = Progress {
        at: Step::Starting,
        step: "Starting".into(),
        since: Moment::START,
        expected: None,
        no_room: None,
    };
    let backends = vec![Backend { replica: ReplicaId::from(1), address: backend, sockets: None, gate }];
    let route = Route {
        app: "app".parse()?,
        title: "App".into(),
        access: Access::everyone(),
        state: RouteState::On { backends, progress },
        traffic: Traffic::default(),
        log_readers: Arc::default(),
        demand: Arc::default(),
        meter: Arc::default(),
    };
    let routes: Routes = [Arc::new(route)].into_iter().collect();
    let (_keep, routes) = watch::channel(Arc::new(routes));
    let begin = Instant::now();
    let clock = Clock::new(move || Moment::START + begin.elapsed());
    let gateway =
        Gateway::new(GatewayConfig::local(listen), routes, clock, |_| {}, Arc::new(Tickets::new([1; 32])));
    let platform = tower::service_fn(|_: Request<Incoming>| async {
        Ok::<_, std::convert::Infallible>(Response::new(String::from("the platform")))
    });
    let listener = std::net::TcpListener::bind(listen)?;
    gateway.serve(listener.into(), platform, CancellationToken::new()).await?;
    Ok(())
}
