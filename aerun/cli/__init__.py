"""One module a console command: parse, call, print. None imports torch before its arguments have been found good."""
