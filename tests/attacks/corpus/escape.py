"""Attacks on the sandbox: the network, other processes, other files, other programs."""

from autograder.attacks.attack import Attack

FAMILY = "escape"
REFUSED = "refused: "


def trying(code):
    """Run code that must raise; what it does instead is told in the student's own error."""
    body = "\n".join("        " + line for line in code.strip().split("\n"))
    return (
        "import ctypes, os, signal, socket, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(result):\n"
        "    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
        "def centre(x, gain):\n"
        f"    try:\n{body}\n"
        "    except BaseException as error:\n"
        "        raise RuntimeError(f'refused: {error!r}')\n"
        "    raise RuntimeError('OPEN')\n"
    )


PARENT = "os.getppid()"
DOORS = {
    "TCP": "socket.create_connection(('127.0.0.1', 22), 1)",
    "TCP over IPv6": "socket.socket(socket.AF_INET6).connect(('::1', 22))",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "an abstract Unix socket": "socket.socket(socket.AF_UNIX).connect('\\0x')",
    "a virtual machine's socket": "socket.socket(socket.AF_VSOCK)",
    "the kernel's crypto socket": "socket.socket(socket.AF_ALG)",
    "a download": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1/', timeout=1)",
    "a name's address": "socket.getaddrinfo('localhost', 80, proto=socket.IPPROTO_TCP)\n"
    "open('/etc/hosts')",
    "a download of data by torchvision": "import torch.hub\n"
    "torch.hub.download_url_to_file('http://127.0.0.1/x', 'x', progress=False)",
    "a shell": "r = os.system('true')\nif r: raise OSError(r, 'Errno')",
    "a program": "os.execv(sys.executable, [sys.executable, '-c', '0'])",
    "a program from memory": "fd = os.memfd_create('x')\nos.execve(fd, ['x'], {})",
    "a subprocess": "import subprocess\nsubprocess.run(['/bin/true'])",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "a fork": "os.fork()",
    "vfork by number": "call(libc.syscall(58))",
    "clone into a new process": "call(libc.syscall(56, 17, 0, 0, 0, 0))",
    "a process pool": "import multiprocessing\nmultiprocessing.get_context('fork').Process("
    "target=print).start()",
    "a data loader's workers": "import torch.utils.data as d\n"
    "list(d.DataLoader(range(4), num_workers=2))",
    "killing the parent": f"os.kill({PARENT}, 9)",
    "killing the grader": "os.kill(@GRADER@, 9)",
    "killing everyone": "os.kill(-1, 9)",
    "killing its process group": "os.killpg(0, 9)",
    "killing siblings": "for p in range(2, 400):\n"
    "    try: os.kill(p, 9) if p != os.getpid() else None\n    except PermissionError: pass\n"
    "    else:\n        if p != os.getpid(): break\n"
    "else: raise OSError('refused by all')",
    "killing by way of a pipe": "import fcntl\nr, w = os.pipe()\n"
    f"fcntl.fcntl(r, fcntl.F_SETOWN, {PARENT})\nfcntl.fcntl(r, 10, 9)\n"
    "fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')",
    "killing by way of a timer": f"call(libc.syscall(129, {PARENT}, 9, b'\\0' * 128))",
    "holding the parent": f"os.pidfd_open({PARENT})",
    "tracing the parent": f"call(libc.ptrace(16, {PARENT}, 0, 0))",
    "reading the parent's memory": f"call(libc.process_vm_readv({PARENT}, b'\\0' * 16, 1, "
    "b'\\0' * 16, 1, 0))",
    "a user namespace": "call(libc.unshare(0x10000000))",
    "a mount": "call(libc.mount(b'x', b'.', b'tmpfs', 0, None))",
    "taking its folder's cover off": "call(libc.umount2(b'.', 2))",
    "another root": "os.chroot('.')",
    "becoming root": "os.setuid(0)",
    "loading BPF": "call(libc.syscall(321, 0, 0, 0))",
    "io_uring": "call(libc.syscall(425, 8, b'\\0' * 120))",
    "userfaultfd": "call(libc.syscall(323, 0))",
    "the keyring": "call(libc.syscall(250, 0, -3, 0))",
    "a 32-bit system call's number": "call(libc.syscall(0x40000000 + 57))",
    "outliving the zygote": "call(libc.prctl(1, 0, 0, 0, 0))",
    "dumping core": "call(libc.prctl(4, 1, 0, 0, 0))",
    "its limits": "import resource\n"
    "resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
    "writing beside its folder": "open('../@ESCAPE@', 'w')",
    "writing to /tmp": "open('/tmp/@ESCAPE@', 'w')",
    "writing to shared memory": "open('/dev/shm/@ESCAPE@', 'w')",
    "writing to home": "open('/root/@ESCAPE@', 'w')\nopen('/home/@ESCAPE@', 'w')",
    "writing to the checkout": "open('@ROOT@/@ESCAPE@', 'w')",
    "writing to Python's packages": "import torch\n"
    "open(os.path.join(os.path.dirname(torch.__file__), '@ESCAPE@'), 'w')",
    "writing to course/": "import course\nopen(course.__path__[0] + '/@ESCAPE@', 'w')",
    "changing the gradebook": "open('@BAIT@/gradebook.db', 'r+b').write(b'100')",
    "shortening the gradebook": "os.truncate('@BAIT@/gradebook.db', 0)",
    "removing the gradebook": "os.unlink('@BAIT@/gradebook.db')",
    "renaming the gradebook": "os.rename('@BAIT@/gradebook.db', 'mine')",
    "changing the gradebook's mode": "os.chmod('@BAIT@/gradebook.db', 0)",
    "changing its owner": "os.chown('@BAIT@/gradebook.db', 1, 1)",
    "changing its time": "os.utime('@BAIT@/gradebook.db', (0, 0))",
    "a link in its place": "os.symlink('/etc/passwd', '@BAIT@/@ESCAPE@')",
    "a folder beside it": "os.mkdir('@BAIT@/@ESCAPE@')",
    "a device": "os.mknod('disk', 0o60600, os.makedev(8, 0))",
    "a terminal": "os.openpty()",
    "a semaphore": "import multiprocessing\nmultiprocessing.Lock()",
    "shared memory by name": "from multiprocessing.shared_memory import SharedMemory\n"
    "SharedMemory(create=True, size=9)",
    "System V shared memory": "call(libc.shmget(0, 4096, 0o1600))",
    "memory without a limit": "os.memfd_create('x')",
    "a lock on a package's file": "import fcntl, torch\nf = open(torch.__file__)\n"
    "fcntl.fcntl(f, 1024, fcntl.F_RDLCK)",
    "watching files": "call(libc.inotify_init1(0))",
    "flushing every disk": "call(libc.syncfs(os.open('.', os.O_RDONLY)))",
}

ATTACKS = [
    Attack(name, "a way out of the worker", {"centre": trying(code)}, told=REFUSED, seconds=20)
    for name, code in DOORS.items()
]
