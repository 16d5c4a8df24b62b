"""A class graded on a Dask cluster: home ships the work, workers grade, home keeps the verdicts."""
