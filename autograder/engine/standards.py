"""What answers are held against: inputs and the outcomes of our own code, each once a run."""

from __future__ import annotations

import hashlib
import sys
import warnings
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

import autograder.spec.probes
from autograder.engine import codec
from autograder.engine.comparison import Coarse, Mismatch, Standard, compare
from autograder.engine.observation import (
    EXACT,
    Observation,
    Setting,
    misshapen,
    run_key,
    texts,
)
from autograder.engine.outcomes import ALONE, Outcomes
from autograder.engine.trial import cast, run_trial
from autograder.lesson import Lesson
from autograder.spec import Case, Exercise, Make, Mistake
from autograder.vendored import cloudpickle

cloudpickle.register_pickle_by_value(autograder.spec.probes)


class GraderDefect(RuntimeError):
    """The grader or the reference itself failed; no student is to blame."""


class Standards:
    """The trusted side of every case of one lesson, for one secret seed.

    Args:
        lesson: whose reference and grader are used.
        seed: of the run; every case draws from a seed derived from it.
        outcomes: of our own code, shared with who else judges by this seed.
    """

    def __init__(self, lesson: Lesson, seed: int, outcomes: Outcomes = ALONE) -> None:
        self.lesson = lesson
        self.run_seed = seed
        self._outcomes = outcomes
        self._inputs: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._messages: dict[tuple[Any, ...], bytes] = {}
        self._references: dict[tuple[Any, ...], Observation] = {}
        self._held_against: dict[tuple[Any, ...], Standard] = {}
        self._answers: dict[tuple[Any, ...], Observation] = {}
        self._rewritten: dict[tuple[str, str], str] = {}
        self._scenarios: dict[int, bytes] = {}
        self._stand_ins: dict[str, bytes] = {}
        cloudpickle.register_pickle_by_value(lesson.grader)
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))

    def seed_of(self, exercise: Exercise, case: Case) -> int:
        """The seed of a case's inputs and of random code in it."""
        told = f"{self.run_seed}/{self.lesson.key}/{exercise.name}/{case.title}"
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big")

    def scenario(self, case: Case) -> bytes:
        """The scenario as it is sent to workers."""
        key = id(case.scenario)
        if key not in self._scenarios:
            self._scenarios[key] = cloudpickle.dumps(case.scenario)
        return self._scenarios[key]

    def stand_in(self, name: str) -> bytes:
        """The oracle of an exercise, of this lesson or an earlier one, as it is sent to workers."""
        if name not in self._stand_ins:
            lesson = self.lesson.earlier.get(name, self.lesson)
            cloudpickle.register_pickle_by_value(lesson.grader)
            self._stand_ins[name] = cloudpickle.dumps(lesson.exercises[name].oracle)
        return self._stand_ins[name]

    def inputs(self, exercise: Exercise, case: Case, dtype: torch.dtype) -> dict[str, Any]:
        """A case's inputs in a dtype, on the CPU."""
        key = (exercise.name, case.title, id(case), dtype)
        if key not in self._inputs:
            try:
                drawn = case.inputs(Make(self.seed_of(exercise, case)))
            except Exception as error:
                raise GraderDefect(f"the inputs of {case.title!r} failed: {error!r}") from error
            self._inputs[key] = cast(drawn, dtype)
        return self._inputs[key]

    def message(self, exercise: Exercise, case: Case, dtype: torch.dtype) -> bytes:
        """A case's inputs as they are sent to workers."""
        key = (exercise.name, case.title, id(case), dtype)
        if key not in self._messages:
            self._messages[key] = codec.encode(self.inputs(exercise, case, dtype))
        return self._messages[key]

    def reference(self, exercise: Exercise, case: Case, setting: Setting) -> Observation:
        """The reference's outcome in a setting.

        Raises:
            GraderDefect: the reference itself fails.
        """
        key = run_key(exercise, case, setting)
        if key not in self._references:
            found = self._observe_once(exercise, case, setting)
            if found.status == "raised":
                raise GraderDefect(f"the reference fails on {case.title!r}: {found.error}")
            self._references[key] = found
        return self._references[key]

    def standard(self, exercise: Exercise, case: Case, setting: Setting) -> Standard:
        """What an outcome in a setting is held against."""
        key = run_key(exercise, case, setting)
        if key not in self._held_against:
            own = self.reference(exercise, case, setting)
            truth = own if setting.device == "fake" else self._truth(exercise, case, setting)
            self._held_against[key] = Standard(
                truth.outcome, own.outcome, setting.dtype, case.loosen
            )
        return self._held_against[key]

    def mistake(
        self, exercise: Exercise, mistake: Mistake, case: Case, setting: Setting
    ) -> Observation:
        """What a known mistake does on a case."""
        rewritten = (exercise.name, mistake.name)
        if rewritten not in self._rewritten:
            source = mistake.apply(self.lesson.reference_source(exercise.name))
            self._rewritten[rewritten] = source
        return self.answer(exercise, case, setting, self._rewritten[rewritten])

    def answer(self, exercise: Exercise, case: Case, setting: Setting, source: str) -> Observation:
        """What a source of ours, in the reference's place, does on a case; made anew for it.

        So nothing that it may keep from run to run depends on who asked for what before.
        """
        key = (*run_key(exercise, case, setting), source)
        if key not in self._answers:
            self._answers[key] = self._observe_once(exercise, case, setting, source)
        return self._answers[key]

    def check(
        self, exercise: Exercise, case: Case, setting: Setting, seen: Observation
    ) -> Mismatch | None:
        """Judge a returned observation."""
        reference = self.reference(exercise, case, setting)
        standard = self.standard(exercise, case, setting)
        if seen.status == "unobservable":
            odd = Mismatch("type", "the result is not of the form that the docstring gives.")
            return misshapen(seen.raw, reference, setting) or odd
        mismatch = compare(seen.outcome, standard)
        surplus = sorted(set(seen.changed) - set(reference.changed))
        if mismatch is None and surplus:
            named = ", ".join(f"`{name}`" for name in surplus)
            return Mismatch("changed", f"your code changes its argument {named} in place.")
        if mismatch and mismatch.kind == "value" and setting == EXACT and not surplus:
            coarse = Coarse(standard.truth, standard.own, standard.dtype)
            if compare(seen.outcome, coarse) is None:
                return replace(mismatch, kind="rounded")
        return mismatch

    def look(
        self, exercise: Exercise, case: Case, setting: Setting, reply: dict[str, Any]
    ) -> Observation:
        """Normalise a trial's reply, from whichever side, and apply ``observe``."""
        status = reply.get("status")
        if status == "raised":
            error = reply.get("error")
            return Observation("raised", error=error if isinstance(error, dict) else {})
        if status != "returned":
            # On the CPU everything can be judged, whatever a worker says.
            known = status == "undefined" or (status == "unjudged" and setting.device == "fake")
            if known:
                return Observation(str(status))
            return Observation("died", error={"message": "gave an impossible answer"})
        changed = texts(reply.get("changed"))
        called = texts(reply.get("called"))
        raw = reply.get("outcome")
        if case.observe is None or setting.device == "fake":
            return Observation("returned", raw, raw, changed, called=called)
        # None while the reference itself is judged.
        reference = self._references.get(run_key(exercise, case, setting))
        if reference is not None and misshapen(raw, reference, setting):
            # Only what has the right form is observed: anything may be slow on anything else.
            return Observation("unobservable", None, raw, changed, called=called)
        try:
            inputs = self.inputs(exercise, case, setting.dtype)
            outcome = codec.decode(codec.encode(case.observe(codec.plain(raw), inputs)))
        except Exception as error:
            told = {"type": type(error).__name__, "message": str(error)}
            return Observation("unobservable", None, raw, changed, told, called)
        return Observation("returned", outcome, raw, changed, called=called)

    def observe_trusted(
        self, exercise: Exercise, case: Case, setting: Setting, implementation: Any
    ) -> Observation:
        """Run our own code on a case, as often as it is asked for."""
        inputs = self.inputs(exercise, case, setting.dtype)
        sent = self._run(exercise, case, setting, implementation, inputs)
        return self._look_at_ours(exercise, case, setting, sent)

    def _observe_once(
        self,
        exercise: Exercise,
        case: Case,
        setting: Setting,
        source: str | None = None,
        rounded_to: torch.dtype | None = None,
    ) -> Observation:
        """The same, of what is run once, by whoever of those who share outcomes comes first.

        Args:
            exercise: whose.
            case: of it.
            setting: where it runs.
            source: in the reference's place; None is the reference.
            rounded_to: the dtype whose precision alone the inputs have, where it is not the
                setting's.
        """

        def compute() -> bytes:
            implementation = self.lesson.implementation(exercise.name, source)
            inputs = self.inputs(exercise, case, rounded_to or setting.dtype)
            if rounded_to is not None:
                inputs = cast(inputs, setting.dtype)
            return self._run(exercise, case, setting, implementation, inputs)

        if case not in exercise.cases:
            sent = compute()
        else:
            place = exercise.cases.index(case)
            which = (exercise.name, place, case.title, setting, rounded_to, source)
            sent = self._outcomes.of("\n".join(map(str, (self.run, *which))), compute)
        return self._look_at_ours(exercise, case, setting, sent)

    @cached_property
    def run(self) -> str:
        """By which seed which lesson is judged, and which state of it."""
        files = (self.lesson.grader_file, self.lesson.reference_file)
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        return " ".join([str(self.run_seed), self.lesson.key, *digests])

    def _run(
        self,
        exercise: Exercise,
        case: Case,
        setting: Setting,
        implementation: Any,
        inputs: dict[str, Any],
    ) -> bytes:
        """Our own code's outcome as a worker would send it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a mistake may well deserve one
                trial = run_trial(
                    case.scenario,
                    implementation,
                    inputs,
                    device=setting.device,
                    seed=self.seed_of(exercise, case),
                )
            return codec.encode(trial)
        except Exception as error:
            told = {"type": type(error).__name__, "message": str(error), "frames": []}
            return codec.encode({"status": "raised", "error": told})

    def _look_at_ours(
        self, exercise: Exercise, case: Case, setting: Setting, sent: bytes
    ) -> Observation:
        try:
            reply = codec.decode(sent)
        except codec.ProtocolError as error:
            told = {"type": "ProtocolError", "message": str(error), "frames": []}
            return Observation("raised", error=told)
        seen = self.look(exercise, case, setting, reply)
        seen.bytes = len(sent)
        return seen

    def _truth(self, exercise: Exercise, case: Case, setting: Setting) -> Observation:
        """The reference in float64 on the CPU, on the inputs as the setting rounds them."""
        if setting == EXACT:
            return self.reference(exercise, case, setting)
        key = (exercise.name, case.title, id(case), "truth", setting.dtype)
        if key not in self._references:
            found = self._observe_once(exercise, case, EXACT, rounded_to=setting.dtype)
            if found.status != "returned":
                raise GraderDefect(f"the reference fails on {case.title!r}: {found.error}")
            self._references[key] = found
        return self._references[key]
