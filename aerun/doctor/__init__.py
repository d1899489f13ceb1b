"""Is a model sick, and of what: evidence is collected once, and each verdict is a function of it.

examination: the evidence;  images, layers, curve, folder: where it comes from;  causes, training, symptoms, advice: the
verdicts, by their names;  judge: which of them to tell;  seen: what is told of healthy runs, too;  monitor: all this
during training.
"""
