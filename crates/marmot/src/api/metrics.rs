//! What the server does, in numbers, in the text format of Prometheus.
//!
//! Totals are for everybody who reaches the platform. Numbers by app carry names of apps, which may be private: they
//! are for administrators, by an API token. Names are those of apps that exist, never what a visitor sent: nobody can
//! make them grow.

use std::fmt::{self, Write as _};

use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use marmot_core::AppName;
use marmot_core::demand::DemandSample;
use marmot_engine::Observed;
use marmot_engine::observed::ReplicaStage;
use marmot_gateway::meter::{BUCKETS, CLASSES, Distribution, Reading, Rung};

use super::extract::Who;
use crate::service::{Service, Shown};

pub(super) async fn metrics(State(service): State<Service>, Who(who): Who) -> impl IntoResponse {
    let apps: Vec<App> = service
        .meters()
        .read()
        .into_iter()
        .map(|(name, reading)| App {
            demand: service.demands().of(&name).sample(),
            name: Some(name),
            reading,
        })
        .collect();
    let mut text = Text::default();
    write_machine(&mut text, &service.observed());
    if let Some(shown) = service.certificates() {
        write_certificates(&mut text, shown, who.is_admin());
    }
    if who.is_admin() {
        write_traffic(&mut text, &apps);
    } else {
        write_traffic(&mut text, &[App::altogether(&apps)]);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text.0)
}

/// An app of which something was asked; or all of them together.
#[derive(Default)]
struct App {
    /// `None`: all of them.
    name: Option<AppName>,
    demand: DemandSample,
    reading: Reading,
}

impl App {
    fn altogether(apps: &[Self]) -> Self {
        let mut all = Self::default();
        for app in apps {
            all.demand.in_flight += app.demand.in_flight;
            all.demand.held += app.demand.held;
            all.demand.sessions += app.demand.sessions;
            all.reading.add(&app.reading);
        }
        all
    }

    /// The labels of this app's numbers, with others: `{app="iris",class="2xx"}`, or nothing at all.
    fn labels(&self, others: &[(&str, &str)]) -> String {
        let name = self.name.as_ref().map(|name| ("app", name.as_str()));
        let labels = name.into_iter().chain(others.iter().copied());
        // No value needs escaping: names of apps are letters, digits and hyphens.
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
    }
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// One number of each app.
    fn of_apps(&mut self, name: &str, kind: &str, help: &str, apps: &[App], value: impl Fn(&App) -> u64) {
        self.family(name, kind, help);
        for app in apps {
            self.sample(name, &app.labels(&[]), value(app));
        }
    }

    fn histogram(&mut self, name: &str, app: &App, labels: &[(&str, &str)], of: &Distribution) {
        let mut total = 0;
        let bounds = BUCKETS.iter().map(|micros| (*micros as f64 / 1e6).to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(of.counts) {
            total += count;
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &app.labels(&labels), total);
        }
        self.sample(&format!("{name}_sum"), &app.labels(labels), of.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &app.labels(labels), total);
    }
}

/// What runs, and what it takes.
fn write_machine(text: &mut Text, observed: &Observed) {
    let stages = ["starting", "running", "hibernated", "draining"];
    let mut counts = [0_u64; 4];
    let (mut resident, mut swapped) = (0, 0);
    for replica in observed.apps.values().flat_map(|app| &app.replicas) {
        let index = match replica.stage {
            ReplicaStage::Starting(_) => 0,
            ReplicaStage::Running { .. } => 1,
            ReplicaStage::Hibernated { .. } => 2,
            ReplicaStage::Draining { .. } | ReplicaStage::Stopping => 3,
        };
        counts[index] += 1;
        resident += replica.memory.resident;
        swapped += replica.memory.swapped;
    }
    text.family("marmot_replicas", "gauge", "Replicas by stage.");
    for (stage, count) in stages.iter().zip(counts) {
        text.sample("marmot_replicas", &format!("{{stage=\"{stage}\"}}"), count);
    }
    let mut gauge = |name: &str, help: &str, value: u64| {
        text.family(name, "gauge", help);
        text.sample(name, "", value);
    };
    gauge("marmot_apps", "Apps that are on.", observed.apps.len() as u64);
    gauge("marmot_builds", "Builds that wait or are under way.", observed.builds.len() as u64);
    gauge("marmot_replicas_resident_bytes", "Resident memory of all replicas.", resident);
    gauge("marmot_replicas_swapped_bytes", "Swapped memory of all replicas.", swapped);
}

/// Until when visitors can be shown what they trust. Hosts of apps are for administrators; others see what ends first.
fn write_certificates(text: &mut Text, shown: &Shown, by_host: bool) {
    let all = shown.certificates.shown();
    let ends = |one: &marmot_gateway::tls::Shown| one.validity.map(|validity| validity.until);
    let name = "marmot_certificate_expires_seconds";
    text.family(
        name,
        "gauge",
        "When a certificate ends, in seconds since 1970; without a host, the first that does.",
    );
    if let Some(first) = all.iter().filter_map(ends).min() {
        text.sample(name, "", first);
    }
    if by_host {
        for one in &all {
            // No value needs escaping: names in certificates are letters, digits, dots, hyphens and asterisks.
            let labels = format!("{{host=\"{}\"}}", one.host);
            ends(one).into_iter().for_each(|end| text.sample(name, &labels, end));
        }
    }
    if let Some(orders) = &shown.orders {
        let name = "marmot_certificate_orders_total";
        text.family(name, "counter", "Orders of certificates that have ended, by how.");
        text.sample(name, "{result=\"issued\"}", orders.issued());
        text.sample(name, "{result=\"failed\"}", orders.failed());
        let name = "marmot_certificates_failing";
        text.family(name, "gauge", "Hosts for which no certificate could be had the last time.");
        text.sample(name, "", orders.failing());
    }
}

/// A number of an app: what it is called, what it says, and where it is found.
type Number = (&'static str, &'static str, fn(&App) -> u64);

/// What passes to and from apps.
fn write_traffic(text: &mut Text, apps: &[App]) {
    let name = "marmot_requests_total";
    text.family(name, "counter", "Requests to apps that were answered, by class of status.");
    for app in apps {
        for (class, count) in CLASSES.iter().zip(app.reading.answers) {
            text.sample(name, &app.labels(&[("class", class)]), count);
        }
    }
    let gauges: [Number; 3] = [
        ("marmot_requests_in_flight", "Requests that apps work on.", |app| app.demand.in_flight),
        ("marmot_requests_held", "Requests that wait for an app to wake, or for their turn.", |app| {
            app.demand.held
        }),
        ("marmot_sessions", "Open WebSockets and event streams of apps.", |app| app.demand.sessions),
    ];
    for (name, help, value) in gauges {
        text.of_apps(name, "gauge", help, apps, value);
    }
    let counters: [Number; 3] = [
        ("marmot_received_bytes_total", "Bytes of bodies and frames that clients sent.", |app| {
            app.reading.received
        }),
        ("marmot_sent_bytes_total", "Bytes of bodies and frames that clients were sent.", |app| {
            app.reading.sent
        }),
        ("marmot_refused_total", "Requests for which there was no place to wait.", |app| app.reading.refused),
    ];
    for (name, help, value) in counters {
        text.of_apps(name, "counter", help, apps, value);
    }
    let name = "marmot_upstream_seconds";
    text.family(name, "histogram", "From handing a request to a replica until its answer began.");
    apps.iter().for_each(|app| text.histogram(name, app, &[], &app.reading.upstream));
    let name = "marmot_queue_seconds";
    text.family(name, "histogram", "Waiting for a turn at a replica that is awake, of those who had to.");
    apps.iter().for_each(|app| text.histogram(name, app, &[], &app.reading.queued));
    let name = "marmot_wake_seconds";
    text.family(
        name,
        "histogram",
        "From the first need of a replica until one was awake, by the rung it slept on.",
    );
    for app in apps {
        for (rung, took) in Rung::ALL.iter().zip(&app.reading.wakes) {
            text.histogram(name, app, &[("rung", rung.as_str())], took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let mut app = App { name: Some("iris".parse().unwrap()), ..App::default() };
        app.reading.answers[1] = 7;
        app.reading.wakes[0].counts[2] = 3;
        app.reading.wakes[0].sum = std::time::Duration::from_millis(21);
        let mut text = Text::default();
        write_traffic(&mut text, &[app]);
        for line in [
            "marmot_requests_total{app=\"iris\",class=\"2xx\"} 7",
            "marmot_wake_seconds_bucket{app=\"iris\",rung=\"hibernated\",le=\"0.005\"} 0",
            "marmot_wake_seconds_bucket{app=\"iris\",rung=\"hibernated\",le=\"0.01\"} 3",
            "marmot_wake_seconds_bucket{app=\"iris\",rung=\"hibernated\",le=\"+Inf\"} 3",
            "marmot_wake_seconds_sum{app=\"iris\",rung=\"hibernated\"} 0.021",
            "marmot_wake_seconds_count{app=\"iris\",rung=\"stopped\"} 0",
            "# TYPE marmot_sessions gauge",
        ] {
            assert!(text.0.lines().any(|written| written == line), "{line} is missing in\n{}", text.0);
        }
        let mut total = Text::default();
        write_traffic(&mut total, &[App::altogether(&[])]);
        assert!(total.0.contains("\nmarmot_requests_total{class=\"2xx\"} 0\n") && !total.0.contains("app="));
    }
}
