"""Codes of a collection: made, packed, written and read, with the pictures that they are of."""
