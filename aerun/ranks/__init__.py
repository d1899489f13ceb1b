"""The ranks of a run: several processes that train it together.

The job (``aerun.runs.launch``) holds the run folder and starts an ``agent`` on every machine, which starts a ``worker``
for each rank. All ranks form the same minibatches and each computes a part of every one (``group``); rank 0 writes.
"""
