"""The worker: one submission, confined, serving the grader's requests until it is killed.

Everything here runs beside the student's code and may be tampered with by it; the grader
believes nothing that comes back beyond the bytes it validates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from autograder.engine import channel, codec
from autograder.engine.callers import Callers
from autograder.engine.cells import Notebook, describe
from autograder.engine.modes import Unseen
from autograder.engine.sandbox import Confinement, enter
from autograder.engine.sandbox.probe import open_doors
from autograder.engine.steady import LOADS, keep_builtins
from autograder.engine.trial import run_trial
from autograder.engine.watch import CallWatch

keep_builtins(globals())

MAX_REQUEST = 256 << 20


def serve(descriptor: int) -> None:
    """Answer requests on a socket until it closes. Never returns normally to the zygote."""
    worker = _Worker()
    while True:
        request = LOADS(channel.receive(descriptor, MAX_REQUEST))  # from the grader only
        reply = worker.answer(descriptor, request)
        channel.send(descriptor, request["token"] + reply)


class _Worker:
    def __init__(self) -> None:
        self._notebook = Notebook()
        self._callers = Callers(globals())
        self._watch = CallWatch(self._callers)

    def answer(self, descriptor: int, request: dict[str, Any]) -> bytes:
        try:
            handler = getattr(self, "_" + request["operation"])
            return codec.encode(handler(descriptor, request))
        except codec.ProtocolError as error:
            return codec.encode({"status": "raised", "error": {
                "type": "ValueError", "message": str(error), "frames": []}})  # fmt: skip
        except BaseException as error:
            return codec.encode({"status": "raised", "error": describe(error)})

    def _confine(self, descriptor: int, request: dict[str, Any]) -> dict[str, Any]:
        confinement = Confinement(
            readable=tuple(Path(p) for p in request["readable"]),
            scratch=Path(request["scratch"]),
            megabytes=request["megabytes"],
            cpu_seconds=request["cpu_seconds"],
            devices=tuple(Path(p) for p in request["devices"]),
            without=tuple(request["without"]),
        )
        record = enter(confinement, keep=descriptor)
        doors = open_doors(request["secrets"]) if request["secrets"] else []
        self._watch.report(request["forbidden"])
        return {"in force": record.in_force, "missing": record.missing, "open doors": doors}

    def _cell(self, _descriptor: int, request: dict[str, Any]) -> dict[str, Any]:
        self._watch.read(request["source"])
        self._notebook.run(request["name"], request["source"])
        return {"status": "returned"}

    def _replace(self, _descriptor: int, request: dict[str, Any]) -> dict[str, Any]:
        implementation = self._callers.stand_in(request["implementation"])
        self._notebook.namespace[request["name"]] = implementation
        return {"status": "returned"}

    def _run(self, _descriptor: int, request: dict[str, Any]) -> dict[str, Any]:
        name = request["exercise"]
        if name not in self._notebook.namespace:
            return {"status": "undefined"}
        scenario = self._callers.scenario(request["scenario"])
        with Unseen():
            inputs = codec.plain(codec.decode(request["inputs"]))
        self._watch.begin(request["forbidden"])
        torch.set_num_threads(1)
        trial = run_trial(
            scenario,
            self._notebook.namespace[name],
            inputs,
            device=request["device"],
            seed=request["seed"],
            watching=self._watch.watching(request["device"], closely=request["closely"]),
            read=codec.settle,
        )
        return {**trial, "called": [*self._watch.seen], "watched": self._watch.is_alive()}
