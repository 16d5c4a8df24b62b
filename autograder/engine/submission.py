"""The ``submission`` that a hidden test receives: an exercise's answer, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import _pytest.outcomes
import pytest
import torch

from autograder.engine.comparison import Mismatch
from autograder.engine.judge import Judge, tell_error
from autograder.engine.observation import EXACT, Observation, Setting
from autograder.engine.recognition import Record
from autograder.spec import Case, Exercise

BLINDED = (
    "After your code ran, calls of ready-made functions could no longer be seen, which this "
    "exercise asks you to write yourself: take out what changes PyTorch or Python itself."
)


class NotJudged(_pytest.outcomes.Skipped):
    """The test could not be judged here; it earns its points and is reported as not judged."""


def settings_of(case: Case) -> list[Setting]:
    """Where a case is judged on the CPU."""
    return [Setting(dtype, "cpu") for dtype in case.dtypes]


@dataclass
class Submission:
    """A student's answer to one exercise.

    Attributes:
        exercise: which one.
        judge: runs the student's code.
        accelerator: "cuda", or "fake" where there is no GPU.
        device: where the current test was judged; for the result.
        error: the student's own error, if one was met.
        is_rounded: whether the current test failed for nothing but float32's rounding in float64.
    """

    exercise: Exercise
    judge: Judge
    accelerator: str
    device: str = "cpu"
    error: str = ""
    is_rounded: bool = False

    def matches_reference(self, case: Case) -> None:
        """Fail unless the answer does as the reference does on the CPU, in every dtype of the case.

        Devices have tests of their own, so that a class graded with a GPU and one graded without
        lose the same points for the same formula.
        """
        rounded = [self._match(case, setting) for setting in settings_of(case)]
        for mismatch in filter(None, rounded):
            self.is_rounded = True
            self._fail(mismatch.message, EXACT)

    def matches_on_device(self, case: Case) -> None:
        """Fail unless the answer works where its inputs are not on the CPU.

        On a GPU where there is one: this case, and then every case of the exercise that the
        answer passes on the CPU. Elsewhere on the fake device, where shapes, dtypes and devices
        are computed and compared and values are not.
        """
        self._match(case, Setting(torch.float32, "cpu"))
        self.device = self.accelerator
        self._match(case, Setting(torch.float32, self.accelerator))
        if self.accelerator == "cuda":
            wrong = {r.case.title for r in self._records() if r.mismatch and _on_cpu(r)}
            for other in self.exercise.cases:
                if other.title not in wrong:
                    for dtype in other.dtypes:
                        self._match(other, Setting(dtype, "cuda"))

    def _match(self, case: Case, setting: Setting) -> Mismatch | None:
        """Fail where the answer is wrong; give the mismatch where it is only rounded."""
        standards = self.judge.standards
        if standards.reference(self.exercise, case, setting).status == "unjudged":
            raise NotJudged("this test cannot be judged without a GPU")
        self._refuse_forbidden([use.name for use in self.judge.uses(self.exercise)])
        seen = self.judge.run(self.exercise, case, setting)
        if seen.status == "died" and setting.device == "fake" and not seen.error.get("timed out"):
            # PyTorch itself crashes on some rightful things there, such as deepcopy.
            seen = Observation("unjudged")
            self.judge.oddities.setdefault(self.exercise.name, []).append(
                "ends its process only where its inputs are not on the CPU"
            )
        self._refuse_forbidden(seen.called)
        if seen.blinded:
            pytest.fail(BLINDED, pytrace=False)
        mismatch = self._judge(case, setting, seen)
        self._records().append(Record(case, setting, seen, mismatch))
        if seen.status == "unjudged":
            raise NotJudged("your code looks at values, so it cannot be judged without a GPU")
        if mismatch and mismatch.kind != "rounded":
            self._fail(mismatch.message, setting)
        return mismatch

    def _records(self) -> list[Record]:
        return self.judge.records.setdefault(self.exercise.name, [])

    def _judge(self, case: Case, setting: Setting, seen: Observation) -> Mismatch | None:
        if seen.status == "unjudged":
            return None
        if seen.status == "undefined":
            return Mismatch("missing", self._why_undefined())
        if seen.status == "died":
            return Mismatch("died", f"Your code {seen.error.get('message', 'ended')}.")
        if seen.status == "raised":
            if seen.error.get("type") == "NotImplementedError" and not seen.error.get("message"):
                return Mismatch("unwritten", f"`{self.exercise.name}` is not written yet.")
            self.error = tell_error(seen.error)
            kind = "device" if setting.device != "cpu" else "raised"
            return Mismatch(kind, f"Your code stopped with {self.error}")
        return self.judge.standards.check(self.exercise, case, setting, seen)

    def _why_undefined(self) -> str:
        name = self.exercise.name
        failure = self.judge.failure_of(name)
        if failure is None:
            return f"No cell defines `{name}`. Put its cell back: its name must stay as it was."
        self.error = failure.message
        return f"`{name}` is not defined, because its cell {failure.message}"

    def _refuse_forbidden(self, names: list[str]) -> None:
        if names:
            told = ", ".join(f"`{name}`" for name in sorted(set(names)))
            pytest.fail(
                f"Uses {told}, which this exercise asks you to write yourself.", pytrace=False
            )

    def _fail(self, message: str, setting: Setting) -> NoReturn:
        where = []
        if setting.dtype != torch.float64 and setting.device == "cpu":
            where.append(str(setting.dtype).removeprefix("torch."))
        if setting.device != "cpu":
            where.append("on a GPU" if setting.device == "cuda" else "with inputs on a GPU")
        told = f" ({', '.join(where)})" if where else ""
        pytest.fail(message[:1].upper() + message[1:] + told, pytrace=False)


def _on_cpu(record: Record) -> bool:
    return record.setting.device == "cpu"
