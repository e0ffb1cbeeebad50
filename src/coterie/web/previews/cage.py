"""Takes from this process what decoding does not need, before it sees a byte of others. Of the standard library alone.

What the kernel can do, by calls through ctypes: Landlock (files, network, signals to others; Linux 5.13 and newer),
seccomp (calls of the kernel; x86-64 and ARM64). Limits of memory, processor, files and descriptors hold on every Unix.
None of it can be given back, and all that this process starts has it, too.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable, Sequence

MEMORY_BYTES_MAX = 768 << 20  # of address space; a picture of 64 megapixels takes 256 MB
PROGRAM_BYTES_MAX = 2 << 30  # of address space where another program is run: its libraries alone take 500 MB
PROCESSOR_S_MAX = 8
DESCRIPTORS_MAX = 16

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 4, 22, 38  # linux/prctl.h
_FILTER = 2  # SECCOMP_MODE_FILTER
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000  # linux/sched.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH = 1
_READ_AND_RUN = 0b1101  # linux/landlock.h: execute, read a file, read a folder
_FS_BITS = {
    1: 13,
    2: 14,
    3: 15,
    4: 15,
}  # kinds of access that each version of Landlock knows; 16 since the fifth
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # linux/seccomp.h; refused: EPERM
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32 = 0x40000000  # calls of the other ABI of x86-64

# Numbers of calls: arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h.
_COMPUTING = {
    # read write close fstat poll lseek mmap mprotect munmap brk sigaction sigprocmask sigreturn pread readv writev
    # sched_yield mremap madvise getpid exit uname gettimeofday getrusage sysinfo times sigaltstack gettid time futex
    # sched_getaffinity restart_syscall clock_gettime clock_getres clock_nanosleep exit_group newfstatat getrandom rseq
    "x86_64": (0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 24, 25, 28, 39, 60, 63, 96, 98, 99, 100, 131,
               186, 201, 202, 204, 219, 228, 229, 230, 231, 262, 318, 334),
    "aarch64": (63, 64, 57, 80, 73, 62, 222, 226, 215, 214, 134, 135, 139, 67, 65, 66, 124, 216, 233, 172, 93, 160,
                169, 165, 179, 153, 132, 178, 98, 123, 128, 113, 114, 115, 94, 79, 278, 293),
}  # fmt: skip
_FORBIDDEN = {
    # socket connect bind kill tkill tgkill ptrace process_vm_readv/writev mount unshare setns bpf perf_event_open
    # userfaultfd add_key request_key keyctl open_by_handle_at prlimit64 setrlimit
    "x86_64": (41, 42, 49, 62, 200, 234, 101, 310, 311, 165, 272, 308, 321, 298, 323, 248, 249, 250, 304, 302, 160),
    "aarch64": (198, 203, 200, 129, 130, 131, 117, 270, 271, 40, 97, 268, 280, 241, 282, 217, 218, 219, 265, 261, 164),
}  # fmt: skip
_FORBIDDEN_EVERYWHERE = (424, 425, 434, 438)  # pidfd_send_signal io_uring_setup pidfd_open pidfd_getfd


def shut(*, runs: Sequence[str] = ()) -> None:
    """Leave this process computing alone; with `runs`, it may read and run what is in these folders, too.

    Raises:
        OSError, ImportError: this system cannot hold a process to limits.
    """
    _limit(PROGRAM_BYTES_MAX if runs else MEMORY_BYTES_MAX, writes=bool(runs))
    if sys.platform != "linux":
        return
    kernel = ctypes.CDLL(None, use_errno=True)
    kernel.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    kernel.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    if kernel.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    kernel.unshare(_NEW_USER | _NEW_NET)  # where the system lets it; the filter below holds without it
    _keep_to(kernel, runs)
    _filter(kernel, runs=bool(runs))


def _limit(memory_bytes_max: int, *, writes: bool) -> None:
    import resource

    for what, bound in (
        (resource.RLIMIT_AS, memory_bytes_max),
        (resource.RLIMIT_CPU, PROCESSOR_S_MAX),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, DESCRIPTORS_MAX),
        *(() if writes else ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0))),
    ):
        with contextlib.suppress(ValueError):  # it is bound to less already
            resource.setrlimit(what, (bound, bound))


def _keep_to(kernel: ctypes.CDLL, folders: Iterable[str]) -> None:
    """Landlock: no file but below these folders, no network, no signal to others; nothing where there is none."""
    version = kernel.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return
    every = (1 << _FS_BITS.get(version, 16)) - 1
    rules = struct.pack("=QQQ", every, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = kernel.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0))
    if ruleset < 0:
        return
    for folder in folders:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # this system has none
        kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", _READ_AND_RUN, fd), 0)
        os.close(fd)
    kernel.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _filter(kernel: ctypes.CDLL, *, runs: bool) -> None:
    """Seccomp: calls of the list alone; where a program is run, all calls but those of the other list."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return
    named = (*_FORBIDDEN[machine], *_FORBIDDEN_EVERYWHERE) if runs else _COMPUTING[machine]
    other, matched = (_ALLOW, _REFUSE) if runs else (_REFUSE, _ALLOW)
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
    steps = [(load, 0, 0, 4), (equal, 1, 0, _ARCHITECTURES[machine]), (answer, 0, 0, _KILL), (load, 0, 0, 0)]
    steps += [(at_least, 0, 1, _X32), (answer, 0, 0, _REFUSE)]
    steps += [(equal, len(named) - at, 0, number) for at, number in enumerate(named)]
    steps += [(answer, 0, 0, other), (answer, 0, 0, matched)]
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(program)
    order = struct.pack("@HP", len(steps), ctypes.addressof(held))
    if kernel.prctl(_SET_SECCOMP, _FILTER, order, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
