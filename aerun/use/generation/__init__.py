"""New images: samples, interpolations, traversals, sums of codes, and points far from all codes."""
