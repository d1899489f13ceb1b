"""Image files cleaned at their own resolution, and filters as baselines."""
