"""What nbgrader is spared changes nothing of what it does."""

import subprocess
import sys
from pathlib import Path

import nbgrader.api
import pytest
from jsonschema import ValidationError, validate
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import common
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3

from autograder.gradebook.repetition import spare_repetition

SCHEMA = MetadataValidatorV3().schema
GOOD = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}


@pytest.fixture(autouse=True)
def spared(monkeypatch):
    # nbgrader runs alembic by its name when it makes a gradebook.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    spare_repetition()


@pytest.mark.parametrize("change", [{"grade": 3}, {"points": -1}, {"cell_type": 7}, {"task": None}])
def test_metadata_is_refused_in_the_words_that_jsonschema_would_use(change):
    told = []
    for check in (common.jsonschema.validate, validate):
        with pytest.raises(ValidationError) as refused:
            check({**GOOD, **change}, SCHEMA)
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_good_metadata_passes_again_and_again():
    for _ in range(3):
        common.jsonschema.validate(GOOD, SCHEMA)


def test_a_gradebook_that_was_deleted_meanwhile_is_made_anew(tmp_path):
    file = tmp_path / "gradebook.db"
    for _ in range(2):
        with Gradebook(f"sqlite:///{file}") as gradebook:
            gradebook.add_student("ann")
            assert [one.id for one in gradebook.students] == ["ann"]
        file.unlink()


def test_a_gradebook_that_is_met_again_is_not_looked_through():
    with Gradebook("sqlite://") as gradebook:
        assert nbgrader.api.inspect(gradebook.engine).get_table_names() != []


def test_grading_does_not_build_the_grammar_of_a_format_that_nobody_asks_for():
    program = (
        "import sys, autograder.commands.grade; sys.exit('rfc3987_syntax.utils' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
