"""What attacks are after: files and values that hold a canary, and places that must not change."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autograder.lesson import ROOT

FILES = (
    "gradebook.db",
    "solutions/reference.py",
    "graders/test_hidden.py",
    "source/lesson.ipynb",
    "submitted/somebody-else/lesson.ipynb",
)
VARIABLE = "FORWARDPASS_CANARY"


@dataclass
class Bait:
    """A folder of secrets, the same secret in the environment and in the grader's memory.

    Attributes:
        folder: where the files are.
        canary: what no output may hold.
        escape: how the name of a file begins that no attack may leave anywhere.
    """

    folder: Path
    canary: str = field(default_factory=lambda: "canary-" + secrets.token_hex(16))
    escape: str = field(default_factory=lambda: "forwardpass-escape-" + secrets.token_hex(4))

    def place(self) -> None:
        """Write the files, readable to everyone: it is the sandbox that must keep them."""
        for name in FILES:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {self.canary}\nANSWER = {self.canary!r}\n", encoding="utf-8")
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o666)
        os.environ[VARIABLE] = self.canary
        self._untouched = self._print()

    def fill_in(self, text: str) -> str:
        """An attack's source with the places named that it asks for."""
        told = {
            "@BAIT@": str(self.folder),
            "@ESCAPE@": self.escape,
            "@ROOT@": str(ROOT),
            "@GRADER@": str(os.getpid()),
        }
        for mark, value in told.items():
            text = text.replace(mark, value)
        return text

    def damage(self) -> list[str]:
        """What has been changed or left behind since the bait was placed."""
        found = [] if self._print() == self._untouched else ["the bait has been changed"]
        for place in self._places():
            try:
                names = os.listdir(place)  # noqa: PTH208 - names are enough
            except OSError:
                continue
            found += [f"{place / name} was written" for name in names if self.escape in name]
        return found

    def _places(self) -> set[Path]:
        home = Path.home()
        temporary = {Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")}
        own = {self.folder, *(p for p in self.folder.rglob("*") if p.is_dir())}
        return {*temporary, *own, home, ROOT, ROOT / "course", Path.cwd(), Path("/")}

    def _print(self) -> str:
        told = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            state = path.lstat()
            told.update(f"{path} {state.st_mode} {state.st_uid} {state.st_nlink}".encode())
            if path.is_file():
                told.update(path.read_bytes())
        return told.hexdigest()


@contextmanager
def laid() -> Iterator[Bait]:
    """Bait for the length of a run."""
    with tempfile.TemporaryDirectory(prefix="forwardpass-bait-") as folder:
        bait = Bait(Path(folder))
        bait.place()
        try:
            yield bait
        finally:
            os.environ.pop(VARIABLE, None)
