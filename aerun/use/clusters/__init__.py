"""Clusters of a collection's codes, and what shows them."""
