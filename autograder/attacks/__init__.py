"""Attacks on the grader, tried for real: by `forwardpass validate --attacks` and by the tests."""
