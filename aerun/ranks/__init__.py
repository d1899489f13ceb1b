"""One run, trained by several processes: its ranks.

The job itself (``launch``) keeps the run folder, and starts an ``agent`` on every machine, which starts ``worker``, a
rank, once for each device. Ranks form the same minibatches and take a part of each (``group``); the first one writes.
"""
