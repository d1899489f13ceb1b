"""What else a trained model is asked at the end of a run, each protocol as its paper has it.

A protocol is a dataclass, called with a ``Subject``, that returns numbers by name; they stand in the summary and in
TensorBoard among the test metrics. Several may be chosen, ``protocol=[one,other]``, each with keys of its own under
``protocol.one``.
"""

from aerun.protocol.subject import Subject

__all__ = ["Subject"]
