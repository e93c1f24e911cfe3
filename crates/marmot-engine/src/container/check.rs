//! What the container engine of this machine is found to be, for the log and for `marmot doctor`.

use std::path::Path;
use std::sync::Arc;

use super::api::EngineError;
use super::endpoint::Endpoint;
use super::{About, ContainerEngine};
use crate::capabilities::{Check, CheckState};

const NAME: &str = "containers";

/// Looks for an engine as a server would, and asks it what it is.
pub async fn check(endpoint: &Endpoint) -> Check {
    match endpoint.socket() {
        Ok(None) if *endpoint == Endpoint::None => {
            Check::good(NAME, "Container images are not run: `container_engine` says so.")
        }
        Ok(None) => none(),
        Ok(Some(socket)) => found(&ContainerEngine::new(socket, String::new(), "".into())).await,
        Err(why) => Check::good(NAME, format!("Container images cannot be run: {why}.")).but(
            CheckState::Missing,
            "External environments and Dockerfiles are not offered.",
            [],
        ),
    }
}

/// What this engine is found to be.
pub(crate) async fn found(engine: &Arc<ContainerEngine>) -> Check {
    told(engine.about().await, engine.api().socket())
}

fn none() -> Check {
    let install = "sudo apt-get install podman catatonit && sudo systemctl enable --now podman.socket";
    Check::good(NAME, "There is no container engine: apps come from code alone.").but(
        CheckState::Reduced,
        "External environments and Dockerfiles are not offered.",
        [install.to_owned()],
    )
}

fn told(about: Result<About, EngineError>, socket: &Path) -> Check {
    let place = socket.display();
    let about = match about {
        Ok(about) => about,
        Err(error) => {
            return Check::good(NAME, format!("Container images cannot be run now: {error}.")).but(
                CheckState::Missing,
                "Apps of images that are stopped do not start.",
                [format!("curl --unix-socket {place} http://engine/_ping")],
            );
        }
    };
    let kind = if about.podman { "Podman" } else { "Docker" };
    let found = format!("Container images are run by {kind} at {place}, shut in like other apps.");
    let check = Check::good(NAME, found);
    if about.maps_users {
        return check.but(
            CheckState::Reduced,
            "Its users are those of an ordinary user: apps of images reach no other machine, keep what they write in \
             memory, and cannot be given secrets as files.",
            ["sudo marmot serve --container-engine /run/podman/podman.sock".to_owned()],
        );
    }
    if !about.leaves_running {
        return check.but(
            CheckState::Reduced,
            "When Docker is started anew, it ends all apps of images; they start again by themselves. With \
             \"live-restore\": true in /etc/docker/daemon.json they go on.",
            ["sudo systemctl reload docker".to_owned()],
        );
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_there_and_what_it_costs() {
        let about = About { podman: true, maps_users: false, makes_groups: true, leaves_running: true };
        let socket = Path::new("/run/x.sock");
        assert_eq!(told(Ok(about), socket).state, CheckState::Good);
        let rootless = told(Ok(About { maps_users: true, ..about }), socket);
        assert_eq!(rootless.state, CheckState::Reduced);
        assert!(rootless.sentence().contains("reach no other machine"), "{}", rootless.sentence());
        let docker = told(Ok(About { podman: false, leaves_running: false, ..about }), socket);
        assert_eq!(docker.state, CheckState::Reduced);
        assert!(docker.sentence().contains("live-restore"), "{}", docker.sentence());
        let hangs = told(Err(EngineError::Hangs(std::time::Duration::from_secs(30))), socket);
        assert_eq!(hangs.state, CheckState::Missing);
    }
}
