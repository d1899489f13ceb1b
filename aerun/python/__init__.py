"""The Python doors: ``aerun.train``, ``aerun.run_sweep``, ``aerun.compare_runs``, and what they return."""
