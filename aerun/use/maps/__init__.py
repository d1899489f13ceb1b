"""Maps of the code space, and statistics of single code units."""
