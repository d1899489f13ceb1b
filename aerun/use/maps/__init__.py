"""Maps of codes in the plane, and what single units do."""
