"""Compare runs by the files in their folders: which keys varied, and the results.

    from aerun.compare import Question, collect, compare

    runs = collect(["outputs/grid"])
    for group in compare(runs, Question(metrics=("test/mse",))).groups:
        print(group.label, group.statistic("test/mse"))

Imports neither torch nor numpy; matplotlib only to draw pictures, scipy only to test differences.
"""

from aerun.compare.collect import collect
from aerun.compare.comparison import Comparison, Question, compare
from aerun.compare.groups import Group
from aerun.compare.records import Run
from aerun.compare.seed_statistics import Statistic

__all__ = ["Comparison", "Group", "Question", "Run", "Statistic", "collect", "compare"]
