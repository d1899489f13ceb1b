"""Console commands, one module each: parse the arguments, call a function, print.

torch is imported only inside functions, after the arguments have been checked.
"""
