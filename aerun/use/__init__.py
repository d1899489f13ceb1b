"""From a trained run to use: what reads run folders and does something with the model in them.

opened, own, pictures, sheet: a run, its own data, picture files and contact sheets, which all others build on;
commands: the console commands, which check, call a function of a package beside them, and print what came of it.
"""
