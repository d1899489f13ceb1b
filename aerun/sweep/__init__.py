"""Many runs: which ones, where their folders are, who computes them, and what became of them.

The launching side is free of torch; ``work`` is what runs where the computing is done.
"""
