"""namespace.py EMULATOR COMMAND...: run a command as root of a namespace in which programs for arm64 run.

EMULATOR is qemu-aarch64-static, or "-" where none is needed. User numbers are the host's; the binfmt_misc, which tells
the kernel how to start foreign programs, is the namespace's own, so that nothing is registered on the host.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, SIGKILL = 1, 9
NEWNS, NEWUSER, NEWPID, REC_PRIVATE = 0x00020000, 0x10000000, 0x20000000, 0x44000
ARM64 = (
    rb":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    """End with the error of the last call of the C library where it failed."""
    if result:
        sys.exit(f"namespace: {os.strerror(ctypes.get_errno())}")


def wait(pid):
    """Return the exit code of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255


def inside():
    """Make the namespace private, register the emulator, and become the command."""
    check(libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))  # this is the namespace's process 1: all of it ends
    check(libc.mount(None, b"/", None, REC_PRIVATE, None))
    check(libc.mount(b"proc", b"/proc", b"proc", 0, None))
    if sys.argv[1] != "-":
        check(libc.mount(b"binfmt_misc", b"/proc/sys/fs/binfmt_misc", b"binfmt_misc", 0, None))
        with open("/proc/sys/fs/binfmt_misc/register", "wb", buffering=0) as file:
            # C: a set-user-ID program (sudo) gets the rights of its own owner, not those of the emulator's.
            file.write(ARM64 + os.fsencode(sys.argv[1]) + b":FPC")
    os.execvp(sys.argv[2], sys.argv[2:])


check(libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))  # where the script is killed, what it was making ends, too
ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    check(libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
    check(libc.unshare(NEWUSER | NEWNS | NEWPID))
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    inner = os.fork()
    if inner == 0:
        inside()
    os._exit(wait(inner))
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write("0 0 65536")
os.write(mapped[1], b"x")
sys.exit(wait(child))
