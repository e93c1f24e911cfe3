//! A supervisor that waits for its replica: what takes time and is the same for every replica is done by then. It is in
//! a control group, and in a network of its own that has its way out.

use std::io::{self, BufRead, PipeReader, PipeWriter};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::network::Place;
use super::spec::{self, Plug, Private, ShimProcess, Spec};
use super::{look_after, spawn};
use crate::cgroup::ReplicaGroup;
use crate::procfs::RawPid;
use crate::sockets;

/// What the supervisor's program is told in the place of a replica's directory, before the server's data directory.
pub(crate) const SPARE: &str = "--spare";

/// Where it waits. The first line that it is sent.
#[derive(Serialize, Deserialize)]
pub(crate) struct Station {
    pub(crate) group: ReplicaGroup,
    pub(crate) plug: Plug,
}

/// The replica that it is to supervise. The second line.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) dir: PathBuf,
    pub(crate) private: Private,
}

/// Waits for a replica and supervises it. Ends when none comes: then the server is gone, or has no use for it.
pub(super) fn serve() -> io::Result<()> {
    let mut lines = io::stdin().lock();
    let Some(Station { group, plug }) = next(&mut lines)? else { return Ok(()) };
    let place = Place::take(plug)?;
    let home = group.enter()?;
    let Some(Order { dir, private }) = next(&mut lines)? else { return Ok(()) };
    drop(lines);
    // So that people can see whose supervisor it is.
    std::env::set_current_dir(&dir)?;
    let spec: Spec = spec::read(&dir, spec::SPEC)?.ok_or(io::ErrorKind::NotFound)?;
    spec::write(&dir, spec::SHIM, &ShimProcess::own()?)?;
    let started = start(&spec, &private, &place, &dir);
    // After it was started: leaving may take as long as all the rest, and the program need not wait for it.
    home.restore();
    look_after(&dir, &spec, private, started)
}

fn start(
    spec: &Spec,
    private: &Private,
    place: &Place,
    dir: &std::path::Path,
) -> io::Result<(RawPid, PipeReader)> {
    let (output, writer): (PipeReader, PipeWriter) = io::pipe()?;
    if let Some(plug) = spec.launch.sandbox.as_ref().and_then(|sandbox| sandbox.plug.as_ref()) {
        place.follow(&plug.rules)?;
    }
    // No network is held for it, so it begins at once.
    let (program, _) = spawn(spec, private, writer, false)?;
    sockets::hand_out(dir)?;
    Ok((program, output))
}

fn next<T: DeserializeOwned>(lines: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(io::Error::from)
}
