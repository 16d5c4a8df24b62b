"""The command ``forwardpass``; each subcommand is a module of ``autograder.commands``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

SUBCOMMANDS = {
    "build": "lessons and references to source/ and release/",
    "validate": "prove the hidden graders by the laws",
    "grade": "a class, into nbgrader's gradebook",
    "grade-notebook": "one notebook, no gradebook",
    "report": "the class report",
    "demo": "a small class through the whole cycle",
}
GRADED, UNGRADED, USAGE = 0, 1, 2


class CommandError(Exception):
    """What the user asked for cannot be done; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        The exit status: 0 done, 1 something could not be done, 2 wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="forwardpass", description="A deep-learning course that grades itself."
    )
    chosen = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, help_text in SUBCOMMANDS.items():
        subparser = chosen.add_parser(name, help=help_text, description=help_text)
        if name in given[:1]:
            module = importlib.import_module(f"autograder.commands.{name.replace('-', '_')}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    options = parser.parse_args(given)
    try:
        return int(options.run(options))
    except CommandError as error:
        print(f"forwardpass {options.subcommand}: {error}", file=sys.stderr)
        return USAGE if getattr(error, "usage", False) else UNGRADED
    except KeyboardInterrupt:
        print(f"forwardpass {options.subcommand}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    # By its name: the subcommands raise that module's CommandError, not __main__'s.
    from autograder import command

    raise SystemExit(command.main())
