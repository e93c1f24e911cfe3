//! A filter of system calls: what no web app needs, and what has opened sandboxes before.

/// One instruction of the kernel's classic packet filter.
type Instruction = (u16, u8, u8, u32);

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
/// As on a kernel without the call: libraries then use the older one.
const ENOSYS: u32 = 0x0005_0026;
const EAFNOSUPPORT: u32 = 0x0005_0061;

// Offsets in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const CLONE_NEWUSER: u32 = 0x1000_0000;
/// Set in the numbers of calls by the x32 convention, which would go around the list.
const X32: u32 = 0x4000_0000;
/// Socket families that reach the kernel or the wire rather than a peer: key management, packets, cryptography,
/// virtual machines.
const REFUSED_FAMILIES: [u32; 4] = [15, 17, 38, 40];

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub(super) const AUDIT_ARCH: u32 = 0xC000_003E;
    pub(super) const CLONE: u32 = 56;
    pub(super) const SOCKET: u32 = 41;
    /// ptrace, syslog, modify_ldt, pivot_root, acct, mount, umount2, swapon, swapoff, reboot, iopl, ioperm,
    /// init_module, delete_module, quotactl, lookup_dcookie, kexec_load, add_key, request_key, keyctl, unshare,
    /// vmsplice, move_pages, perf_event_open, name_to_handle_at, open_by_handle_at, setns, process_vm_readv,
    /// process_vm_writev, kcmp, finit_module, kexec_file_load, bpf, userfaultfd, io_uring_setup, io_uring_enter,
    /// io_uring_register, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_getfd, mount_setattr,
    /// quotactl_fd.
    pub(super) const REFUSED: [u32; 46] = [
        101, 103, 154, 155, 163, 165, 166, 167, 168, 169, 172, 173, 175, 176, 179, 212, 246, 248, 249, 250,
        272, 278, 279, 298, 303, 304, 308, 310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430,
        431, 432, 433, 438, 442, 443,
    ];
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub(super) const AUDIT_ARCH: u32 = 0xC000_00B7;
    pub(super) const CLONE: u32 = 220;
    pub(super) const SOCKET: u32 = 198;
    /// The same calls as on x86-64, without those that this architecture never had (modify_ldt, iopl, ioperm).
    pub(super) const REFUSED: [u32; 43] = [
        117, 116, 41, 89, 40, 39, 224, 225, 142, 105, 106, 60, 18, 104, 217, 218, 219, 97, 75, 239, 241, 264,
        265, 268, 270, 271, 272, 273, 294, 280, 282, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442,
        443,
    ];
}

/// `clone3`, whose flags a filter cannot see. The same number on every architecture.
const CLONE3: u32 = 435;

/// The filter as bubblewrap reads it; `None` on an architecture whose calls are not known here.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn filter() -> Option<Vec<u8>> {
    let mut program: Vec<Instruction> = vec![
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, numbers::AUDIT_ARCH),
        (RETURN, 0, 0, EPERM),
        (LOAD, 0, 0, NUMBER),
        (JUMP_GREATER_EQUAL, 0, 1, X32),
        (RETURN, 0, 0, ENOSYS),
        (JUMP_EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, ENOSYS),
        (JUMP_EQUAL, 0, 4, numbers::CLONE),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_SET, 0, 1, CLONE_NEWUSER),
        (RETURN, 0, 0, EPERM),
        (RETURN, 0, 0, ALLOW),
    ];
    for number in numbers::REFUSED {
        program.extend([(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, EPERM)]);
    }
    program.extend([
        (JUMP_EQUAL, 1, 0, numbers::SOCKET),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, FIRST_ARGUMENT),
    ]);
    for family in REFUSED_FAMILIES {
        program.extend([(JUMP_EQUAL, 0, 1, family), (RETURN, 0, 0, EAFNOSUPPORT)]);
    }
    program.push((RETURN, 0, 0, ALLOW));
    let bytes = program.into_iter().flat_map(|(code, yes, no, value)| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[yes, no]);
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    });
    Some(bytes.collect())
}

/// The filter as bubblewrap reads it; `None` on an architecture whose calls are not known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn filter() -> Option<Vec<u8>> {
    None
}
