"""Sweeps: choose the points, check them, launch their jobs, and report the results.

The launching process does not import torch; ``job_worker``, ``point_check`` and ``estimate`` do, and run in worker
processes (see ``remote``).
"""
