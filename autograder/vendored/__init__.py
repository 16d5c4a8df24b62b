"""Libraries that travel with the engine, unchanged, to machines that cannot install any.

- ``cloudpickle.py``: cloudpickle 3.1.2, https://github.com/cloudpipe/cloudpickle, BSD-3-Clause
  (``cloudpickle.LICENSE``). Scenarios are sent to workers by value with it, on a GPU machine with
  only torch, numpy, pytest and nbformat as well. To renew it, copy the file from its release.
"""
