//! Where the steps of a build by the engine run: in a network and a control group that are made for them.

use std::time::Duration;

use marmot_core::id::BuildId;

use super::NoImage;
use crate::build::contract::{BuildContext, BuildsNetwork};
use crate::build::process::Job;
use crate::cgroup::ReplicaGroup;
use crate::container::api::Call;
use crate::container::{About, ContainerEngine};
use crate::network::{BuildNetwork, Uplink};

/// What was ended by force is gone soon.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// Where the steps of a build run. An engine that is no longer asked for the result may let the step go on that it is at.
pub(super) struct Steps {
    /// The name of their control group, where the engine takes one.
    name: Option<String>,
    network: Network,
}

enum Network {
    Own(BuildNetwork),
    /// As the engine makes it.
    Engines,
}

impl Steps {
    /// Gets everything ready for the steps of a build.
    pub(super) async fn of(
        context: &BuildContext,
        job: &Job,
        about: About,
        engine: &ContainerEngine,
        id: BuildId,
    ) -> Result<Self, NoImage> {
        let network = match context.network {
            BuildsNetwork::Shared => Network::Engines,
            BuildsNetwork::Fenced => Network::Own(own_network(context, job, about).await?),
        };
        let name = about.makes_groups.then(|| format!("{}-build-{id}", engine.tag()));
        Ok(Self { name, network })
    }

    /// Tells the engine of it.
    pub(super) fn told(&self, about: About, mut call: Call) -> Call {
        if about.podman {
            let (path, resolver) = match &self.network {
                Network::Own(own) => (own.path(), own.has_a_way_out().then(Uplink::resolver)),
                // By itself it has steps share the machine's network and its processes.
                Network::Engines => (String::new(), None),
            };
            let own = serde_json::json!([{"Name": "network", "Host": false, "Path": path}]);
            call = call.with("isolation", "oci").with("nsoptions", own.to_string());
            if let Some(resolver) = resolver {
                call = call.with("dnsservers", serde_json::json!([resolver]).to_string());
            }
        }
        match &self.name {
            Some(name) => call.with("cgroupparent", format!("/{name}")),
            None => call,
        }
    }

    /// Ends whatever still runs, and removes the group.
    pub(super) async fn end(self) {
        let Some(name) = &self.name else { return };
        let group = ReplicaGroup::at_the_top(name);
        group.kill();
        if tokio::time::timeout(ENDED_WITHIN, group.emptied()).await.is_err() {
            tracing::warn!(group = name, "a step of a build still runs");
        }
        group.remove();
    }
}

/// Why an engine takes no network that was made for steps.
fn takes_none(about: About) -> Option<&'static str> {
    match about {
        About { podman: false, .. } => Some("Docker takes no network that was made for them"),
        About { maps_users: true, .. } => Some("the container engine is one of an ordinary user"),
        About { .. } => None,
    }
}

pub(super) async fn own_network(
    context: &BuildContext,
    job: &Job,
    about: About,
) -> Result<BuildNetwork, NoImage> {
    let unfenced = |why: &str| NoImage::Unfenced(why.to_owned());
    if let Some(why) = takes_none(about) {
        return Err(unfenced(why));
    }
    let (uplink, allowed) = (context.uplink().cloned(), context.may_reach.clone());
    if uplink.is_none() {
        job.log.say("Warning: the steps reach no other machine: this server has no way out to give them.");
    }
    let making = tokio::task::spawn_blocking(move || BuildNetwork::make(uplink.as_ref(), &allowed));
    let made = making.await.map_err(|error| unfenced(&error.to_string()))?;
    made.map_err(|error| unfenced(&format!("no network can be made for them ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_take_no_network_are_refused_with_what_an_operator_can_do() {
        let about =
            |podman, maps_users| About { podman, maps_users, makes_groups: true, leaves_running: true };
        assert_eq!(takes_none(about(true, false)), None);
        for (about, expected) in [(about(false, false), "Docker"), (about(true, true), "ordinary user")] {
            let refused = NoImage::Unfenced(takes_none(about).unwrap().to_owned()).to_string();
            assert!(refused.contains(expected) && refused.contains("builds_network"), "{refused}");
        }
    }
}
