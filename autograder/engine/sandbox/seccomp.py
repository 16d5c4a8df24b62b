"""seccomp: which system calls a worker can make. See seccomp(2) and bpf(2).

A deny list, because PyTorch, CUDA and Python between them make too many calls for an allow
list to survive their releases; calls newer than the list are refused as unknown.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

from autograder.engine.sandbox.kernel import (
    MACHINE,
    PR_SET_SECCOMP,
    LayerUnavailable,
    prctl,
)

SECCOMP_MODE_FILTER = 2
RET_ALLOW, RET_ERRNO, RET_KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
OFFSET_NUMBER, OFFSET_ARCH, OFFSET_ARGS = 0, 4, 16
CLONE_THREAD = 0x00010000
FIRST_UNKNOWN = 470

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # the network and other channels
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269), "recvmsg": (47, 212),
    "recvmmsg": (299, 243),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191),
    "mq_open": (240, 180), "fanotify_init": (300, 262), "inotify_init1": (294, 26),
    "inotify_init": (253, None), "inotify_add_watch": (254, 27),
    # new processes and programs
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "setpgid": (109, 154),
    "setsid": (112, 157),
    # files' owners, modes, times and attributes, which Landlock leaves alone
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # the file system tree and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "statmount": (457, 457), "listmount": (458, 458), "open_tree_attr": (467, 467),
    # identities
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159),
    "setfsuid": (122, 151), "setfsgid": (123, 152), "capset": (126, 91),
    # the kernel itself, and interfaces with a history of holes
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "personality": (135, 92),
    "modify_ldt": (154, None), "vhangup": (153, 58), "setrlimit": (160, 164),
    "memfd_secret": (447, 447), "lookup_dcookie": (212, 18), "io_setup": (206, 0),
    "sync": (162, 81), "syncfs": (306, 267),
}  # fmt: skip
# Memory that no limit of the worker's counts; CUDA's driver may want it.
MEMFD_CREATE = (319, 279)
CLONE, CLONE3 = (56, 220), (435, 435)
KILL, TGKILL, PRLIMIT = (62, 129), (234, 131), (302, 261)
PRCTL, FCNTL, IOCTL, MMAP = (157, 167), (72, 25), (16, 29), (9, 222)
# Outliving the zygote, dumping core, other processes' scheduling and memory.
REFUSED_PRCTL = (1, 4, 28, 33, 35, 36, 62, 0x59616D61)
# F_SETOWN, F_SETSIG, F_SETOWN_EX: a signal of one's choice to a process of one's choice, by way of
# a pipe; F_SETLEASE, F_NOTIFY: holding up whoever opens a file.
REFUSED_FCNTL = (8, 10, 15, 1024, 1026)
REFUSED_IOCTL = (0x5452, 0x8901, 0x8902, 0x5412, 0x541C)  # the same by FIOSETOWN; typing for others
MAP_STACK, SMALLEST_STACK = 0x20000, 1 << 20


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction))]


def restrict(*, cuda: bool = False) -> str:
    """Refuse the denied system calls in this thread and what it starts, for good.

    Needs no_new_privs. Refused calls fail with EPERM, so that Python raises PermissionError.

    Returns:
        The layer as it is recorded.

    Raises:
        LayerUnavailable: an unknown architecture, or a kernel without seccomp filters.
    """
    if MACHINE not in AUDIT_ARCH:
        raise LayerUnavailable(0, f"no seccomp filter is written for {MACHINE}")
    _install(list(_instructions(cuda)))
    return f"seccomp ({len(DENIED)} calls refused)"


def refuse_alone(*names: str) -> None:
    """Refuse a few calls and nothing else, as a container's runtime does; to try the engine so."""
    column = 0 if MACHINE == "x86_64" else 1
    instructions = [_Instruction(LOAD, 0, 0, OFFSET_NUMBER)]
    known = {**DENIED, "landlock_create_ruleset": (444, 444)}
    for number in (known[name][column] for name in names):
        instructions.append(_Instruction(JUMP_EQUAL, 0, 1, number or 0))
        instructions.append(_Instruction(RETURN, 0, 0, RET_ERRNO | errno.EPERM))
    _install([*instructions, _Instruction(RETURN, 0, 0, RET_ALLOW)])


def _install(instructions: list[_Instruction]) -> None:
    array = (_Instruction * len(instructions))(*instructions)
    program = _Program(len(instructions), array)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _instructions(cuda: bool) -> Iterator[_Instruction]:
    column = 0 if MACHINE == "x86_64" else 1
    refuse = RET_ERRNO | errno.EPERM
    yield _Instruction(LOAD, 0, 0, OFFSET_ARCH)
    yield _Instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH[MACHINE])
    yield _Instruction(RETURN, 0, 0, RET_KILL)
    yield _Instruction(LOAD, 0, 0, OFFSET_NUMBER)
    # Newer calls than we know, and on x86_64 the x32 numbers with bit 30 set.
    yield _Instruction(JUMP_GREATER_EQUAL, 0, 1, FIRST_UNKNOWN)
    yield _Instruction(RETURN, 0, 0, RET_ERRNO | errno.ENOSYS)
    # ENOSYS makes libc fall back on clone, whose flags a filter can read.
    yield _Instruction(JUMP_EQUAL, 0, 1, CLONE3[column])
    yield _Instruction(RETURN, 0, 0, RET_ERRNO | errno.ENOSYS)
    for numbers in (*DENIED.values(), *(() if cuda else (MEMFD_CREATE,))):
        if numbers[column] is not None:
            yield _Instruction(JUMP_EQUAL, 0, 1, numbers[column])
            yield _Instruction(RETURN, 0, 0, refuse)
    yield from _guarded(CLONE[column], [(OFFSET_ARGS, JUMP_SET, CLONE_THREAD)], refuse)
    own = os.getpid()
    for call in (KILL, TGKILL):
        yield from _guarded(call[column], [(OFFSET_ARGS, JUMP_EQUAL, own)], refuse)
    third = OFFSET_ARGS + 16  # prlimit's new limit: a null pointer only reads
    yield from _guarded(
        PRLIMIT[column], [(third, JUMP_EQUAL, 0), (third + 4, JUMP_EQUAL, 0)], refuse
    )
    second = OFFSET_ARGS + 8
    yield from _refused_where(PRCTL[column], OFFSET_ARGS, REFUSED_PRCTL, refuse)
    yield from _refused_where(FCNTL[column], second, REFUSED_FCNTL, refuse)
    yield from _refused_where(IOCTL[column], second, REFUSED_IOCTL, refuse)
    yield from _stacks_of_size(MMAP[column], RET_ERRNO | errno.ENOMEM)
    yield _Instruction(RETURN, 0, 0, RET_ALLOW)


def _refused_where(
    number: int, offset: int, values: tuple[int, ...], refuse: int
) -> Iterator[_Instruction]:
    """Refuse one call where an argument has one of these values."""
    yield _Instruction(JUMP_EQUAL, 0, 2 * len(values) + 2, number)
    yield _Instruction(LOAD, 0, 0, offset)
    for value in values:
        yield _Instruction(JUMP_EQUAL, 0, 1, value)
        yield _Instruction(RETURN, 0, 0, refuse)
    yield _Instruction(RETURN, 0, 0, RET_ALLOW)


def _stacks_of_size(mmap: int, refuse: int) -> Iterator[_Instruction]:
    """Refuse small stacks, so that the limit on memory is a limit on threads as well."""
    length, flags = OFFSET_ARGS + 8, OFFSET_ARGS + 24
    yield _Instruction(JUMP_EQUAL, 0, 8, mmap)
    yield _Instruction(LOAD, 0, 0, flags)
    yield _Instruction(JUMP_SET, 0, 4, MAP_STACK)
    yield _Instruction(LOAD, 0, 0, length + 4)
    yield _Instruction(JUMP_GREATER_EQUAL, 2, 0, 1)
    yield _Instruction(LOAD, 0, 0, length)
    yield _Instruction(JUMP_GREATER_EQUAL, 0, 1, SMALLEST_STACK)
    yield _Instruction(RETURN, 0, 0, RET_ALLOW)
    yield _Instruction(RETURN, 0, 0, refuse)


def _guarded(
    number: int, conditions: list[tuple[int, int, int]], refuse: int
) -> Iterator[_Instruction]:
    """Allow one call only where every condition on its arguments holds."""
    length = 3 * len(conditions) + 1
    yield _Instruction(JUMP_EQUAL, 0, length, number)
    for offset, jump, value in conditions:
        yield _Instruction(LOAD, 0, 0, offset)
        yield _Instruction(jump, 1, 0, value)
        yield _Instruction(RETURN, 0, 0, refuse)
    yield _Instruction(RETURN, 0, 0, RET_ALLOW)
