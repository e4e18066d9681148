"""What simcore raises when a person, not the program, has to act.

A message is one line that names the item and says what to do; the command line prints it as it is.
"""

from __future__ import annotations

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # how a system refuses to write more


class SimcoreError(Exception):
    """The job cannot be done (exit code 1)."""

    exit_code = 1


class UsageError(SimcoreError):
    """The call itself is wrong: an unknown name, a value out of range (exit code 2)."""

    exit_code = 2


class BadDataError(SimcoreError):
    """Bad items were met while ``strict`` asked for none (exit code 1)."""


class SimcoreWarning(UserWarning):
    """Something was left out, clamped or looks wrong; the job went on."""
