"""Errors for the user: shown as one line, without a traceback."""


class AerunError(Exception):
    """An error that the user can fix; its text is complete, in one or two lines."""


class ConfigError(AerunError):
    """An invalid key or value, or options that are incompatible."""


class DataError(AerunError):
    """A file or folder is missing, damaged, or of the wrong kind."""


class DivergedError(AerunError):
    """Training produced a loss that is not finite. The text ends in ``; try`` and what may help."""


class StorageError(AerunError):
    """A file of the run folder cannot be written."""


class BusyError(ConfigError):
    """Another process is writing to the run folder."""


class PrunedError(AerunError):
    """A search stopped the run early because it was not promising."""


class CallbackError(AerunError):
    """A user's callback raised an error."""


class KilledError(AerunError):
    """A process of the run ended without an error report."""
