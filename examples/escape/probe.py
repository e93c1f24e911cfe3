"""Tries what an app must not be able to do, and says what it could: one line for each try."""

import ctypes
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"


def attempt(name, action):
    try:
        result = action()
    except BaseException as error:
        print("refused:", name, "|", type(error).__name__, str(error)[:80], flush=True)
    else:
        print("COULD:", name, "|", repr(result)[:120], flush=True)


def call(x86, arm, *arguments):
    """A system call by its number on either architecture."""
    number = x86 if X86 else arm
    assert number is not None, "this architecture never had it"
    result = libc.syscall(number, *arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def some(things):
    things = list(things)
    assert things, "nothing there"
    return things


def read(path):
    with open(path, "rb") as file:
        return some(file.read(64))


def write(path, data=b"1"):
    with open(path, "r+b", buffering=0) as file:
        return file.write(data)


def connect(address, family=socket.AF_INET):
    peer = socket.socket(family)
    peer.settimeout(2)
    peer.connect(address)
    return "connected"


def groups():
    for place, directories, files in os.walk("/sys/fs/cgroup"):
        for name in ["", *files]:
            yield os.path.join(place, name)


def option(level, name, value):
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.setsockopt(level, name, value)
    return "set"


def is_busybox(path):
    with open(path, "rb") as file:
        return b"BusyBox" in file.read()


DATA, NEIGHBOUR, SERVER_PID = os.environ["DATA_DIR"], os.environ["NEIGHBOUR"], int(os.environ["SERVER_PID"])
PORT, HOST = int(os.environ["CONTROL_PORT"]), os.environ.get("HOST_ADDRESS", "127.0.0.1")

# What an image, and whoever runs it, brings itself.
ALLOWED = os.environ.get("ALLOWED", "").split()

# Files of the platform, of others, of the machine.
attempt("list the data directory", lambda: some(os.listdir(DATA)))
attempt("read the engine's lock", lambda: open(DATA + "/engine.lock"))
attempt("read the database", lambda: open(DATA + "/marmot.db"))
attempt("see other apps", lambda: some(os.listdir(DATA + "/apps")))
attempt("read a neighbour's file", lambda: read(NEIGHBOUR))
attempt("follow a link of the build to the machine's secrets", lambda: read("link-to-shadow"))
attempt("follow a link of the build to the data directory", lambda: some(os.listdir("link-to-data")))
attempt("follow a link of the build up and out", lambda: read("link-up"))
attempt("climb out of its directory", lambda: some(set(os.listdir("/" + "../" * 20)) & {"root", "var", "boot", "srv"} - set(ALLOWED)))
attempt("read /root", lambda: some(os.listdir("/root")))
attempt("read other homes", lambda: some(set(os.listdir("/home")) - {"app"}))
attempt("read /etc/shadow", lambda: read("/etc/shadow"))
attempt("read the machine's sockets", lambda: some(set(os.listdir("/run")) - set(ALLOWED)))
attempt("write to the system", lambda: open("/usr/escape", "w"))
attempt("write to the root", lambda: open("/escape", "w"))
attempt("write to /etc", lambda: open("/etc/escape", "w"))
attempt("replace a library", lambda: os.rename("/usr/bin/env", "/usr/bin/env2"))
# The kernel's files.
attempt("set the core pattern", lambda: write("/proc/sys/kernel/core_pattern"))
attempt("set a kernel parameter", lambda: write("/proc/sys/vm/overcommit_memory"))
attempt("press a magic key", lambda: write("/proc/sysrq-trigger", b"h"))
attempt("read kernel memory", lambda: read("/dev/mem"))
attempt("read the kernel's log", lambda: read("/dev/kmsg"))
attempt("reach the control groups", lambda: some(os.listdir("/sys/fs/cgroup")))
attempt("change its control groups", lambda: some(path for path in groups() if os.access(path, os.W_OK)))
attempt("find block devices", lambda: some(os.listdir("/sys/block")))
attempt("make a device", lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)))
attempt("make an interface", lambda: open("/dev/net/tun", "r+b"))
# Other processes.
attempt("see others' processes", lambda: some(p for p in os.listdir("/proc") if p.isdigit() and int(p) > 400))
attempt("kill the server", lambda: os.kill(SERVER_PID, signal.SIGKILL))
attempt("read the server's memory", lambda: read(f"/proc/{SERVER_PID}/environ"))
attempt("read the sandbox's environment", lambda: read("/proc/1/environ"))
attempt("read the sandbox's memory", lambda: open("/proc/1/mem", "rb"))
attempt("see through the sandbox's root", lambda: some(os.listdir("/proc/1/root/root")))
attempt("trace the sandbox's init", lambda: call(101, 117, 16, 1, 0, 0))
attempt("read another process's memory", lambda: call(310, 270, 1, 0, 0, 0, 0, 0))
attempt("take a descriptor of another process", lambda: call(438, 438, 3, 0, 0))
attempt("raise its own priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
attempt("run in real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
attempt("raise its own limits", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)))
# Rights.
attempt("become root", lambda: os.setuid(0))
attempt("become another user", lambda: os.setuid(1000) if os.getuid() != 1000 else os.setuid(1001))
attempt("become root by a program that is root's", lambda: subprocess.run(["/bin/su", "id"], check=True, capture_output=True).stdout.index(b"uid=0") if is_busybox("/bin/su") else os.stat("/nonexistent"))
attempt("become root by su", lambda: subprocess.run(["su", "-c", "id"], check=True, capture_output=True))
attempt("have a program made root's", lambda: os.chown("/tmp", 0, 0))
attempt("change its root", lambda: os.chroot("/tmp"))
attempt("change the machine's name", lambda: socket.sethostname("escaped"))
# Namespaces and mounts.
attempt("mount", lambda: call(165, 40, b"none", b"/tmp", b"tmpfs", 0, None))
attempt("unmount", lambda: call(166, 39, b"/usr", 2))
attempt("pivot", lambda: call(155, 41, b"/tmp", b"/tmp"))
attempt("open a tree of mounts", lambda: call(428, 428, -100, b"/", 1))
attempt("make a user namespace", lambda: call(272, 97, 0x10000000))
attempt("make a network namespace", lambda: call(272, 97, 0x40000000))
attempt("make a user namespace by clone", lambda: call(56, 220, 0x10000000 | 17, 0, 0, 0, 0))
attempt("make one by clone3", lambda: call(435, 435, ctypes.create_string_buffer(struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0)), 64))
attempt("enter a namespace", lambda: call(308, 268, os.open("/proc/1/ns/net", os.O_RDONLY), 0))
# The kernel's corners.
attempt("use the keyring", lambda: call(250, 219, 0, -3, 1))
attempt("add a key", lambda: call(248, 217, b"user", b"x", b"x", 1, -2))
attempt("load bpf", lambda: call(321, 280, 0, ctypes.create_string_buffer(128), 128))
attempt("count events", lambda: call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0))
attempt("set up io_uring", lambda: call(425, 425, 1, ctypes.create_string_buffer(128)))
attempt("handle page faults", lambda: call(323, 282, 0))
attempt("open by handle", lambda: call(304, 265, 3, None, 0))
attempt("load a module", lambda: call(313, 273, 0, b"", 0))
attempt("load a kernel", lambda: call(246, 104, 0, 0, None, 0))
attempt("restart the machine", lambda: call(169, 142, 0xFEE1DEAD, 672274793, 0x89ABCDEF, 0))
attempt("swap", lambda: call(167, 224, b"/tmp/none", 0))
attempt("use ports of the hardware", lambda: call(172, None, 3))
# The network.
attempt("open a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("open a raw socket over IPv6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))
attempt("open a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("open a socket to virtual machines", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("open a socket to the kernel's cryptography", lambda: socket.socket(38, socket.SOCK_SEQPACKET))
attempt("mark its packets", lambda: option(socket.SOL_SOCKET, 36, 1))
attempt("send from others' addresses", lambda: option(socket.IPPROTO_IP, 19, 1))
attempt("set up an interface", lambda: subprocess.run(["ip", "link", "set", "lo", "down"], check=True, capture_output=True))
attempt("reach the server by the loopback interface", lambda: connect(("127.0.0.1", PORT)))
attempt("reach the server by the other loopback interface", lambda: connect(("::1", PORT), socket.AF_INET6))
attempt("reach the server by the machine's address", lambda: connect((HOST, PORT)))
attempt("reach an abstract socket", lambda: connect("\0marmot-escape-" + str(SERVER_PID), socket.AF_UNIX))
attempt("reach the metadata of the cloud", lambda: connect(("169.254.169.254", 80)))
attempt("reach a neighbour", lambda: connect((os.environ.get("NEIGHBOUR_ADDRESS", "198.18.0.1"), 8000)))
attempt("reach the network in the middle", lambda: connect(("198.19.254.1", PORT)))
attempt("reach the container engine", lambda: connect(os.environ.get("ENGINE_SOCKET", "/run/podman/podman.sock"), socket.AF_UNIX))
attempt("reach a private network", lambda: connect(("10.0.0.1", 80)))

# Does not return where it is permitted: the kernel ignores it.
try:
    os.kill(1, signal.SIGKILL)
except OSError:
    pass

# What it may.
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
print("status:", status["CapEff"], status["CapBnd"], status["NoNewPrivs"], status["Seccomp"], flush=True)
import multiprocessing
import pwd
import tempfile

socket.create_server(("0.0.0.0", 80))
open(os.path.expanduser("~/mine"), "w").write("x")
open("here", "w").write("x")
tempfile.TemporaryFile().write(b"x")
mmap.mmap(-1, 4096)
multiprocessing.Lock()
# An image's own list of users does not have everybody.
names = [user.pw_name for user in pwd.getpwall() if user.pw_uid == os.getuid()] or ["nobody"]
print("own:", names[0], os.path.expanduser("~"), tempfile.gettempdir(), flush=True)
