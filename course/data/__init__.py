"""Data sets, real and offline: no lesson's default path needs a network."""

from course.data.batches import batches
from course.data.digits import Split, load_digits
from course.data.points import gaussian_ring, moons, spirals

__all__ = ["Split", "batches", "gaussian_ring", "load_digits", "moons", "spirals"]
