"""Diagnoses models and runs: the evidence is collected once, and each verdict is a function of it.

examination: the evidence;  evidence: collects it from a model or a run, with image_evidence, layer_units, loss_curve
and part_options;  file_evidence: collects it from a run's files alone;  causes, training_causes, symptoms, advice: the
verdicts;  judge: which verdicts to report;  measurements: what to report of healthy runs too;  monitor: the doctor
during training;  remedies: what to try, checked by the run's configuration.
"""
