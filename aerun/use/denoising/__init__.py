"""Pictures cleaned at their own resolution, and the filters that a model has to beat."""
