"""The exception with which a study ends."""

from __future__ import annotations


class StudyError(Exception):
    """A study that cannot continue; the message says what was found, what was expected and the next step."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code  # exit status of the command line
