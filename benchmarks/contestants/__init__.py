"""Ways to train the same networks on the same images, each with ``prepare(task)`` that returns a ``Train``."""
