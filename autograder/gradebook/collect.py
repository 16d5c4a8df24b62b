"""nbgrader's collect, without what a student's links point to."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from nbgrader.exchange.default import ExchangeCollect

from autograder.engine.notebook import UnreadableNotebook
from autograder.gradebook.submission import read_file, strangers_in


class CollectFiles(ExchangeCollect):
    """Collects ordinary files and folders; links, pipes, devices and floods stay behind.

    nbgrader's own copies what a link points to with the instructor's rights, and so could hand
    a student the gradebook with their feedback. It stops for all at one who handed in too much,
    and what it was killed in it takes for collected.
    """

    def do_copy(self, src: str, dest: str, log: Any = None) -> None:
        """Copy a submission from the exchange, whole or not at all."""
        part = Path(dest).with_name(f".{Path(dest).name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            staged = Path(folder, "submission")
            self._stage(Path(src), staged)
            super().do_copy(str(staged), str(part), log)
        part.rename(dest)

    def _stage(self, submission: Path, staged: Path) -> None:
        limit = min(self.coursedir.max_file_size, self.coursedir.max_dir_size)
        behind = dict(strangers_in(submission, limit))
        for path, why in behind.items():
            self.log.warning("Left behind, for it %s: %r", why, str(path))
        staged.mkdir()
        if submission in behind:
            self._copy_lessons(submission, staged)
            return
        try:
            shutil.copytree(
                submission,
                staged,
                ignore=lambda at, names: [name for name in names if Path(at, name) in behind],
                symlinks=True,
                dirs_exist_ok=True,
            )
        except shutil.Error as error:
            self.log.error("Not all of %r could be copied: %s", str(submission), error)
        for path, _ in strangers_in(staged):  # what became a link while it was copied
            path.unlink()

    def _copy_lessons(self, submission: Path, staged: Path) -> None:
        """Of a folder that is not copied as it is, what can be graded."""
        source = self.coursedir.format_path(
            self.coursedir.source_directory, ".", self.coursedir.assignment_id
        )
        lessons = [path.name for path in Path(source).glob("*.ipynb")]
        for name in (*lessons, "timestamp.txt"):
            with contextlib.suppress(UnreadableNotebook):
                Path(staged, name).write_bytes(read_file(submission / name))
