"""The class report: one page about an assignment, for the instructor."""
