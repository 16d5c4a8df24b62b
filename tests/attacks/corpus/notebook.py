"""Attacks by the notebook itself: its metadata, its cells, its size, its oddities."""

import copy
import itertools
import json

from autograder.attacks.attack import ALL, Attack

FAMILY = "notebook"
NOTHING = dict.fromkeys(("centre", "soft", "soft_backward", "count", "jitter"), 0)
WRONG = "def centre(x, gain):\n    return x\n"


def solutions(notebook):
    return [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]


def hidden(notebook):
    return [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]


def all_wrong(notebook):
    for cell in solutions(notebook):
        name = cell["metadata"]["forwardpass"]["exercise"]
        cell["source"] = f"def {name}(*a, **k):\n    return 0\n"
    return notebook


def changing(change, *, wrong=True):
    """A change of the notebook, with every answer wrong unless that is the point."""

    def changed(notebook):
        notebook = all_wrong(notebook) if wrong else notebook
        return change(notebook) or notebook

    return changed


def code_cell(source, **more):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [],
            "execution_count": None, "id": "made-up", **more}  # fmt: skip


def boast(notebook):
    full = {"output_type": "execute_result", "data": {"text/plain": "100.0"}, "metadata": {},
            "execution_count": 1}  # fmt: skip
    for cell in notebook["cells"]:
        cell["outputs"] = [full]


def richer(notebook):
    for cell in notebook["cells"]:
        marks = cell["metadata"].get("nbgrader")
        if marks:
            marks.update(points=1000, grade=True, solution=False, locked=False, schema_version=1)


def swapped(notebook):
    cells = solutions(notebook)
    for one, other in itertools.pairwise(cells):
        one["metadata"], other["metadata"] = other["metadata"], one["metadata"]


def tests_rewritten(notebook):
    for cell in hidden(notebook):
        cell["source"] = "print(100)\n100.0"
        cell["metadata"]["nbgrader"].update(grade=False, locked=False)


def hidden_in_own_cell(notebook):
    marks = copy.deepcopy(hidden(notebook)[0]["metadata"])
    notebook["cells"].append(code_cell("100.0", metadata=marks))


def kernel(notebook):
    code = "python3; touch /tmp/@ESCAPE@; `touch /tmp/@ESCAPE@`"
    notebook["metadata"]["kernelspec"] = {"name": code, "display_name": code, "language": code}
    notebook["metadata"]["language_info"] = {"name": code, "version": "../../@ESCAPE@"}


def other_lesson(notebook):
    notebook["metadata"]["forwardpass"] = {"lesson": "../../@ESCAPE@"}


def huge_output(_):
    out = '{"output_type":"stream","name":"stdout","text":"' + "x" * (200 << 20) + '"}'
    return ('{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[{"cell_type":"code","id":"a",'
            '"metadata":{},"source":"","execution_count":1,"outputs":[' + out + "]}]}").encode()  # fmt: skip


def cells_of(count, cell='{"cell_type":"code","source":"","metadata":{},"outputs":[]}'):
    def made(_):
        cells = ",".join([cell] * count)
        return ('{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[' + cells + "]}").encode()

    return made


def add(*cells):
    return changing(lambda notebook: notebook["cells"].extend(cells))


def set_everywhere(key, value):
    return changing(
        lambda notebook: [c.__setitem__(key, value) for c in notebook["cells"]] and None
    )


SHELL = "!touch /tmp/@ESCAPE@\n%system touch /tmp/@ESCAPE@\n%%bash\ntouch /tmp/@ESCAPE@"
PLANTED = (
    "open('sitecustomize.py', 'w').write('raise SystemExit')\n"
    "open('conftest.py', 'w').write('raise SystemExit')\nopen('pytest.ini', 'w').write('x')"
)
DEEPLY = "x = " + "(" * 150 + "1" + ")" * 150

ODDITIES = {
    "metadata stripped": changing(lambda n: [c.update(metadata={}) for c in n["cells"]] and None),
    "metadata swapped between cells": changing(swapped),
    "a thousand points a cell": changing(richer),
    "full marks in the outputs": changing(boast),
    "the hidden tests' cells rewritten": changing(tests_rewritten),
    "a graded cell hidden in an added one": changing(hidden_in_own_cell),
    "every cell twice": changing(lambda n: n["cells"].extend(copy.deepcopy(n["cells"]))),
    "no cells": changing(lambda n: n["cells"].clear()),
    "only markdown": set_everywhere("cell_type", "markdown"),
    "cells of an unknown type": set_everywhere("cell_type", "cobol"),
    "ids that are numbers": set_everywhere("id", 7),
    "metadata that is a list": set_everywhere("metadata", [1]),
    "outputs that are text": set_everywhere("outputs", "100.0"),
    "sources that are numbers": set_everywhere("source", 3.5),
    "sources as lists of oddities": set_everywhere(
        "source", ["x = 1\n", None, 2, {"a": []}, "\ud800"]
    ),
    "code in the kernel's name": changing(kernel),
    "a lesson that is a path": changing(other_lesson),
    "shell escapes": add(code_cell(SHELL)),
    "files that start by themselves": add(code_cell(PLANTED)),
    "a homoglyph for a name": add(code_cell("def cеntre(x, gain):\n    return 1\n")),
    "a name in full-width letters": add(
        code_cell("def ｃｅｎｔｒｅ(x, gain):\n    return x * 0\n")
    ),
    "deep nesting": add(code_cell(DEEPLY)),
    "nesting too deep to parse": add(code_cell("x = " + "(" * 5000 + ")" * 5000)),
    "a chain of 50 000 names": add(code_cell("def soft(x): return x" + ".a" * 50_000)),
    "a sum of 50 000 terms": add(code_cell("def soft(x): return 1" + "+x" * 50_000)),
    "a name imported 100 000 times": add(code_cell("import torch as t\n" * 20_000)),
    "brackets that are slow to refuse": add(code_cell("{" * 99 + "\n" + "[(" * 99)),
    "a null byte": add(code_cell("x = 1\0\ny = 2")),
    "a form feed and a carriage return": add(code_cell("x = 1\r\x0cy = 2\r\n")),
    "another encoding": add(code_cell("# -*- coding: utf-7 -*-\nx = '+AGEAYg-'")),
    "an exercise's name set to nothing": add(code_cell("centre = soft = count = None")),
    "names of the engine's": add(
        code_cell("verdict = score = submission = 100\n__name__ = 'grader'")
    ),
}
CLOSED = {
    "a million cells": (cells_of(1_000_000, "{}"), "cells"),
    "six thousand cells": (cells_of(6_000), "cells"),
    "an output of 200 MB": (huge_output, "MiB|clear its outputs"),
    "an empty file": (lambda _: b"", "empty"),
    "half a file": (lambda n: json.dumps(n).encode()[:900], "cut short"),
    "a zip file": (lambda _: b"PK\x03\x04" + bytes(99), "not a notebook"),
    "a pickle": (lambda _: b"\x80\x04\x95" + bytes(9), "not a notebook|UTF-8"),
    "UTF-16": (lambda n: json.dumps(n).encode("utf-16"), "UTF-8|not a notebook"),
    "a list": (lambda _: b"[]", "no nbformat"),
    "brackets without end": (lambda _: b"[" * (8 << 20), "far more"),
    "brackets in brackets": (lambda _: b"[" * 10**6, "not a notebook"),
    "a number of a million digits": (lambda _: b'{"nbformat": ' + b"9" * 10**6 + b"}", "not a note"),
    "format 3": (lambda n: json.dumps({**n, "nbformat": 3}).encode(), "format 3"),
    "a format that is a list": (lambda n: json.dumps({**n, "nbformat": [4]}).encode(), "format"),
    "cells that are texts": (lambda n: json.dumps({**n, "cells": ["x"]}).encode(), "list of cells"),
    "more code than anyone writes": (cells_of(100, json.dumps(code_cell("x = 1\n" * 50_000))),
                                     "code"),
}  # fmt: skip
SPARE = changing(
    lambda n: n["cells"].append(code_cell("%matplotlib inline\n!ls\nx?\n")), wrong=False
)
LISTS = changing(
    lambda n: [c.update(source=c["source"].splitlines(keepends=True)) for c in n["cells"]] and None,
    wrong=False,
)

ATTACKS = [
    *(
        Attack(name, "points for nothing, or a grader that stumbles", notebook=change,
               earns=NOTHING, seconds=20)
        for name, change in ODDITIES.items()
    ),
    *(
        Attack(name, "the grader stumbles or swells", notebook=make, unreadable=reason, seconds=15)
        for name, (make, reason) in CLOSED.items()
    ),
    Attack("magics about a right answer", "nothing: it must get full marks", notebook=SPARE,
           earns=ALL),
    Attack("sources as lists of lines", "nothing: it must get full marks", notebook=LISTS,
           earns=ALL),
    Attack("the untouched answer again below", "a filled-in cell counts twice",
           {"centre": WRONG}, after=(WRONG, WRONG)),
]  # fmt: skip
