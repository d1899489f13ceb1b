"""Search in a collection: nearest codes, the originals of crops, near-duplicates."""
