"""The demo: a small class of generated submissions, through the whole nbgrader cycle."""
