"""Compare runs by the files in their folders: which keys varied, and the results.

    from aerun.compare import Question, collect, compare

    runs = collect(["outputs/grid"])
    for group in compare(runs, Question(metrics=("test/mse",))).groups:
        print(group.label, group.statistic("test/mse"))

Imports neither torch nor numpy; matplotlib only to draw pictures.
"""

from aerun.compare.collect import collect
from aerun.compare.comparison import Comparison, Question, compare
from aerun.compare.groups import Group, Statistic
from aerun.compare.records import Run

__all__ = ["Comparison", "Group", "Question", "Run", "Statistic", "collect", "compare"]
