//! The filter of `seccomp.rs` as container engines read it: by the names of system calls. Their own filters differ, and
//! let through what has opened sandboxes before: Podman's, for one, new user namespaces.

use serde_json::{Value, json};

const CLONE_NEWUSER: u32 = 0x1000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
/// Key management, packets, cryptography, virtual machines.
const REFUSED_FAMILIES: [u32; 4] = [15, 17, 38, 40];

/// What the filter of other apps refuses; a name that an architecture never had is passed over.
const REFUSED: [&str; 46] = [
    "ptrace",
    "syslog",
    "modify_ldt",
    "pivot_root",
    "acct",
    "mount",
    "umount2",
    "swapon",
    "swapoff",
    "reboot",
    "iopl",
    "ioperm",
    "init_module",
    "delete_module",
    "quotactl",
    "lookup_dcookie",
    "kexec_load",
    "add_key",
    "request_key",
    "keyctl",
    "unshare",
    "vmsplice",
    "move_pages",
    "perf_event_open",
    "name_to_handle_at",
    "open_by_handle_at",
    "setns",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "finit_module",
    "kexec_file_load",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "pidfd_getfd",
    "mount_setattr",
    "quotactl_fd",
];

/// What engines refuse by themselves, and apps that are no containers have no use for either.
const REFUSED_BY_ENGINES: [&str; 7] =
    ["fanotify_init", "migrate_pages", "nfsservctl", "sysfs", "uselib", "ustat", "vhangup"];

/// The filter.
pub(crate) fn profile() -> Value {
    let refuse = |names: &[&str], error: u32, arguments: Value| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error, "args": arguments});
    let mut rules = vec![
        refuse(&REFUSED, EPERM, json!([])),
        refuse(&REFUSED_BY_ENGINES, EPERM, json!([])),
        // As on a kernel without the call: libraries then use the older one, whose flags a filter can see.
        refuse(&["clone3"], ENOSYS, json!([])),
        refuse(
            &["clone"],
            EPERM,
            json!([{"index": 0, "value": CLONE_NEWUSER, "valueTwo": CLONE_NEWUSER, "op": "SCMP_CMP_MASKED_EQ"}]),
        ),
    ];
    rules.extend(REFUSED_FAMILIES.map(|family| {
        refuse(&["socket"], EAFNOSUPPORT, json!([{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]))
    }));
    // No architecture is named: calls by the conventions of any but the kernel's own end the program.
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}
