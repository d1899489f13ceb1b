"""Errors that are meant for the person at the command line: one line, no traceback."""


class AerunError(Exception):
    """Anything that the user can mend; its text stands alone on one or two lines."""


class ConfigError(AerunError):
    """A key, a value, or a pair of options that cannot work."""


class DataError(AerunError):
    """A data file or folder that is missing, damaged, or not what its name says."""


class DivergedError(AerunError):
    """Training produced a loss that is not finite."""


class StorageError(AerunError):
    """A file of the run folder that cannot be written."""


class BusyError(ConfigError):
    """A run folder that another process is writing."""


class PrunedError(AerunError):
    """A run that a search has stopped early, as not promising."""


class CallbackError(AerunError):
    """A callback of the user's own that raised an error."""


class KilledError(AerunError):
    """A process of the run that ended without an error report."""
