"""Comparing runs by their folders' files: which keys varied, and what came of it.

    from aerun.compare import Question, collect, compare

    runs = collect(["outputs/grid"])
    for group in compare(runs, Question(metrics=("test/mse",))).groups:
        print(group.label, group.statistic("test/mse"))

Neither torch nor numpy is imported; matplotlib is, where pictures are asked for.
"""

from aerun.compare.collect import collect
from aerun.compare.groups import Group, Statistic
from aerun.compare.records import Run
from aerun.compare.table import Comparison, Question, compare

__all__ = ["Comparison", "Group", "Question", "Run", "Statistic", "collect", "compare"]
