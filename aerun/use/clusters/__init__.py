"""Clusters of a collection, and the files that show them."""
