"""nbgrader's side: its commands, its gradebook and its formgrader, grading through the engine."""
