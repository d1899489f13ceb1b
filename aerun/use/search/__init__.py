"""Nearest neighbours and near-duplicates among the codes of a collection."""
