"""nbgrader's collect, without what a student's links point to."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from nbgrader.exchange.default import ExchangeCollect


class CollectFiles(ExchangeCollect):
    """Collects ordinary files and folders; links, pipes and devices stay behind.

    nbgrader's own copies what a link points to with the instructor's rights, and so could hand
    a student the gradebook with their feedback.
    """

    def do_copy(self, src: str, dest: str, log: Any = None) -> None:
        """Copy a submission from the exchange."""
        with tempfile.TemporaryDirectory() as folder:
            staged = Path(folder, "submission")
            shutil.copytree(src, staged, ignore=self._strangers)
            super().do_copy(str(staged), dest, log)

    def _strangers(self, folder: str, names: list[str]) -> list[str]:
        found = []
        for name in names:
            mode = Path(folder, name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                self.log.warning("Left behind, for it is not an ordinary file: %s/%s", folder, name)
                found.append(name)
        return found
