"""The two ways an update ends early: the user can mend it before anything is spent, or it failed under way."""


class UsageError(ValueError):
    """Refused before anything was spent: the message says what was given, what was expected and what to do.

    The command line exits with 2.
    """


class StageError(RuntimeError):
    """A stage could not finish. What it had committed stays; the same command goes on from there.

    The command line exits with 1.
    """


class DamagedError(StageError):
    """A file of a workspace is missing, unreadable or not what its records say.

    The message names the file, what was expected and found, and how to get it back. The command line exits with 1.
    """
