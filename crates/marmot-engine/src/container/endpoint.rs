//! Where the container engine is: what the setting says, `DOCKER_HOST`, or the usual sockets.

use std::path::{Path, PathBuf};

/// Where to look for an engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Endpoint {
    /// `DOCKER_HOST`, else the first of the usual sockets that is there.
    #[default]
    Usual,
    /// This socket.
    Socket(PathBuf),
    /// Nowhere: images are not run.
    None,
}

/// What looking for an engine depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) docker_host: Option<String>,
    pub(crate) runtime_dir: Option<PathBuf>,
    pub(crate) is_root: bool,
}

impl Surroundings {
    fn here() -> Self {
        Self {
            docker_host: std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            is_root: rustix::process::geteuid().is_root(),
        }
    }
}

/// Why an engine that is named cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "DOCKER_HOST is `{0}`: only an engine on this machine can run apps, because the gateway goes into its containers' \
     networks; give it as unix:///path/to/socket, or name the socket with `container_engine`"
)]
pub struct NotHere(String);

impl Endpoint {
    /// The socket of the engine on this machine; `None` where there is none.
    ///
    /// # Errors
    /// When `DOCKER_HOST` names an engine elsewhere.
    pub fn socket(&self) -> Result<Option<PathBuf>, NotHere> {
        self.find(&Surroundings::here(), Path::exists)
    }

    pub(crate) fn find(
        &self,
        around: &Surroundings,
        is_there: impl Fn(&Path) -> bool,
    ) -> Result<Option<PathBuf>, NotHere> {
        match self {
            Self::None => return Ok(None),
            Self::Socket(socket) => return Ok(Some(socket.clone())),
            Self::Usual => {}
        }
        if let Some(host) = &around.docker_host {
            let path = host.strip_prefix("unix://").filter(|path| path.starts_with('/'));
            return path.map(|path| Some(path.into())).ok_or_else(|| NotHere(shown(host)));
        }
        let own = ["podman/podman.sock", "docker.sock"];
        let own = around.runtime_dir.iter().flat_map(|dir| own.map(|name| dir.join(name)));
        let common = ["/run/podman/podman.sock", "/run/docker.sock", "/var/run/docker.sock"];
        let common = common.map(PathBuf::from);
        // A user's own engine can do no more than that user.
        let mut places: Vec<PathBuf> = if around.is_root { Vec::new() } else { own.collect() };
        places.extend(common);
        Ok(places.into_iter().find(|place| is_there(place)))
    }
}

/// Without what may be a password.
fn shown(host: &str) -> String {
    let host = host.rsplit_once('@').map_or(host, |(_, rest)| rest);
    host.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(endpoint: &Endpoint, around: &Surroundings, there: &[&str]) -> Option<String> {
        let found = endpoint.find(around, |path| there.contains(&path.to_str().unwrap()));
        found.unwrap().map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_is_said_wins_over_docker_host_which_wins_over_the_usual_places() {
        let there = ["/run/podman/podman.sock", "/var/run/docker.sock", "/run/user/1000/docker.sock"];
        let root = Surroundings { is_root: true, ..Surroundings::default() };
        let user = Surroundings { runtime_dir: Some("/run/user/1000".into()), ..Surroundings::default() };
        let host = Surroundings { docker_host: Some("unix:///x.sock".to_owned()), ..user.clone() };
        let usual = &Endpoint::Usual;
        assert_eq!(found(&Endpoint::Socket("/a".into()), &host, &there).as_deref(), Some("/a"));
        assert_eq!(found(&Endpoint::None, &host, &there), None);
        assert_eq!(found(usual, &host, &there).as_deref(), Some("/x.sock"));
        assert_eq!(found(usual, &user, &there).as_deref(), Some("/run/user/1000/docker.sock"));
        assert_eq!(found(usual, &root, &there).as_deref(), Some("/run/podman/podman.sock"));
        assert_eq!(found(usual, &root, &there[1..]).as_deref(), Some("/var/run/docker.sock"));
        assert_eq!(found(usual, &root, &[]), None);
    }

    #[test]
    fn an_engine_elsewhere_is_refused_in_words_without_its_password() {
        let host = Some("tcp://ada:hunter2@far.example:2376".to_owned());
        let around = Surroundings { docker_host: host, ..Surroundings::default() };
        let refused = Endpoint::Usual.find(&around, |_| true).unwrap_err().to_string();
        assert!(refused.contains("far.example:2376") && !refused.contains("hunter2"), "{refused}");
    }
}
