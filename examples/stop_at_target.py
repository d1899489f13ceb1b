"""A callback: ends the training as soon as a number is good enough."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from aerun.contracts import EpochEnd, Finite, Observer, RunView
from aerun.metrics.declared import metric_of

log = logging.getLogger(__name__)


@dataclass
class StopAtTarget(Observer):
    """Ends the training after the epoch in which ``metric`` reaches ``value``, and says after how many seconds: time to
    target is how training speed is compared where methods differ (Mattson et al. 2020, "MLPerf Training Benchmark").

    Whether that is from above or from below is declared with every metric.
    """

    metric: str
    value: Finite

    def begin(self, run: RunView) -> None:
        self.progress = run.progress

    def should_stop(self, numbers: Mapping[str, float]) -> bool:
        if self.metric not in numbers:
            raise ValueError(f"{self.metric} is not reported; reported are {', '.join(sorted(numbers))}")
        sign = 1 if metric_of(self.metric).higher_is_better else -1
        return sign * numbers[self.metric] >= sign * self.value

    def epoch(self, end: EpochEnd) -> None:
        if end.evaluated and self.should_stop(end.numbers):
            log.info("%s=%.5g reached after %.1f s", self.metric, end.numbers[self.metric], self.progress.train_seconds)
