//! The device by which apps' way out of their networks is made: opened to every user, as udev does where there is one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::say;

const TUN: &str = "/dev/net/tun";

/// Never fails: without it, apps reach no other machine, and the tests of that say that they were skipped.
pub(super) fn run() {
    let Ok(meta) = fs::metadata(TUN) else {
        say(TUN, "not there; apps will reach no other machine");
        return;
    };
    if meta.permissions().mode() & 0o666 == 0o666 {
        say(TUN, "there, open to every user");
    } else if fs::set_permissions(TUN, fs::Permissions::from_mode(0o666)).is_ok() {
        say(TUN, "opened to every user");
    } else {
        say(TUN, "root's alone (`sudo chmod 0666 /dev/net/tun`); apps will reach no other machine");
    }
}
