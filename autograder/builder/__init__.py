"""Lessons and references, built into the notebooks that nbgrader and students use."""
