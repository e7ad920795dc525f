"""Faults a user can mend. Each is one clear line; the command line prints it and exits with a code (docs/cli.md)."""

from __future__ import annotations


class PerfitError(Exception):
    """A fault the user can mend: what happened, where, and what to do about it."""


class ConfigError(PerfitError):
    """A setting has an impossible value; the message names the field, the value and the way out."""


class DataError(PerfitError):
    """A record of the user's data is unusable.

    Args:
        message: What is wrong, without the offending text itself (users' text never reaches a log).
        file: The file it was read from.
        record: The record inside it, as a line or an index path such as ``[3].profile[7]``.
        remedy: What the user can do.
    """

    def __init__(self, message: str, *, file: str | None = None, record: str | None = None, remedy: str | None = None):
        where = ", ".join(part for part in (file, record) if part)
        line = f"{where}: {message}" if where else message
        super().__init__(f"{line}; {remedy}" if remedy else line)
        self.file, self.record, self.remedy = file, record, remedy


class LeakError(DataError):
    """The answers that are to be predicted can be read in the training data."""


class BaseModelError(PerfitError):
    """The base model cannot be loaded, or is not the one an artifact belongs to."""


class StoreError(PerfitError):
    """A store or run directory is damaged, foreign, or in use."""


class DamagedError(StoreError):
    """A file of ours is not what was written: cut, altered, or not readable at all."""


class UnreachableError(StoreError):
    """What lies outside a run's files, in a bucket, cannot be read or written now; later it may."""


class UnknownUserError(PerfitError):
    """No shift is stored for this user."""


class ClosedError(PerfitError):
    """A serving engine takes no more requests: it is draining or closed."""


class MissingExtraError(PerfitError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, extra: str, package: str):
        super().__init__(f"this needs {package}; install it with: pip install 'perfit[{extra}]'")
