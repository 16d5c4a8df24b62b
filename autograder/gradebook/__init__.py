"""nbgrader's side: its commands, its gradebook and its formgrader, grading through the engine."""

import sys

# With it, jsonschema builds a grammar of addresses that no notebook's schema asks for, at its
# import: as long as everything else of nbgrader takes to load. None is Python's way to say of a
# module that it cannot be imported, for which jsonschema is prepared.
if "jsonschema" not in sys.modules:
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
