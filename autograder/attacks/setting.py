"""Other machines than this one, imitated: an ordinary user, a container without namespaces.

``python -m autograder.attacks.setting [--ordinary] [--without-…] PATTERN…`` tries
the attacks whose family and name match in such a setting and prints their outcomes as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import sys
from pathlib import Path

from autograder.engine.sandbox import namespaces, privileges, seccomp
from autograder.engine.sandbox.kernel import LIBC, checked
from autograder.lesson import ROOT

NOBODY = 65534
CANNOT = 77
MS_BIND, MS_REC, MS_PRIVATE, MS_MOVE = 4096, 1 << 14, 1 << 18, 8192
MARK = "FORWARDPASS_SETTING"


def main() -> int:
    """Enter the setting, start over in it, try the attacks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ordinary", action="store_true")
    parser.add_argument("--without-namespaces", action="store_true")
    parser.add_argument("--without-landlock", action="store_true")
    parser.add_argument("families", nargs="+")
    options = parser.parse_args()
    if os.environ.get(MARK) != "entered":
        try:
            if options.ordinary:
                become_ordinary()
        except OSError as error:
            print(f"this setting cannot be imitated here: {error}", file=sys.stderr)
            return CANNOT
        if options.without_namespaces:
            refuse("unshare", "setns", "mount", "umount2")
        if options.without_landlock:
            refuse("landlock_create_ruleset")
        os.chdir("/")
        environment = {**os.environ, MARK: "entered", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
        os.execve(sys.executable, [sys.executable, *_again(sys.argv[1:])], environment)
    return _try(options.families)


def become_ordinary() -> None:
    """Give up root for good; Python and the checkout stay readable where they are.

    Raises:
        LayerUnavailable: this process may not make mounts of its own.
    """
    if os.getuid() != 0:
        return
    checked(LIBC.unshare(namespaces.NEW_NS), "a mount namespace")
    checked(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")
    _uncover([Path(sys.prefix), Path(sys.base_prefix), ROOT])
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def refuse(*calls: str) -> None:
    """Do as a container's runtime or an old kernel does, to this process and all below it."""
    privileges.forbid_new_privileges()
    seccomp.refuse_alone(*calls)


def _uncover(wanted: list[Path]) -> None:
    """Put readable folders in the place of those that only root may enter."""
    for lid in {lid for path in wanted if (lid := _lid_of(path))}:
        below = sorted({p for p in wanted if p.is_relative_to(lid)})
        below = [p for p in below if not any(p != q and p.is_relative_to(q) for q in below)]
        aside = Path("/tmp") / f"forwardpass-aside-{os.getpid()}"
        _mount(b"tmpfs", _made(aside), b"tmpfs", 0)
        for number, path in enumerate(below):
            _mount(bytes(path), _made(aside / str(number)), None, MS_BIND | MS_REC)
        _mount(b"tmpfs", lid, b"tmpfs", 0)
        lid.chmod(0o755)
        for number, path in enumerate(below):
            _mount(bytes(aside / str(number)), _made(path), None, MS_MOVE)
        checked(LIBC.umount2(bytes(aside), 2), "umount")
        aside.rmdir()


def _lid_of(path: Path) -> Path | None:
    """The outermost folder on the way to a path that others may not enter."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mount(source: bytes, target: Path, kind: bytes | None, flags: int) -> None:
    told = ctypes.c_char_p(source), ctypes.c_char_p(bytes(target)), ctypes.c_char_p(kind)
    checked(LIBC.mount(*told, ctypes.c_ulong(flags), None), f"a mount on {target}")


def _again(arguments: list[str]) -> list[str]:
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    return [
        "-c",
        start + "from autograder.attacks.setting import main; sys.exit(main())",
        *arguments,
    ]


def _try(families: list[str]) -> int:
    from autograder.attacks.corpus import corpus
    from autograder.attacks.ground import ground

    with contextlib.redirect_stdout(sys.stderr), ground() as here:
        pattern = re.compile("|".join(families))
        chosen = [attack for attack in corpus() if pattern.match(attack.key)]
        outcomes = [here.attempt(attack).to_dict() for attack in chosen]
        zygote = here.zygote
        told = {
            "user": os.getuid(),
            "in force": zygote.layers,
            "missing": zygote.missing,
            "attacks": outcomes,
        }
    print(json.dumps(told))
    return 0 if all(outcome["held"] for outcome in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
