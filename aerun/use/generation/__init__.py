"""New images: samples, interpolations, traversals, sums, and points where no codes are."""
