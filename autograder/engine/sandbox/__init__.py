"""What stands between a submission and the machine; each layer says whether it is in force."""

from autograder.engine.sandbox.layers import REQUIRED, Confinement, enter

__all__ = ["REQUIRED", "Confinement", "enter"]
