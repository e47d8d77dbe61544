"""The one exception that says: the input is wrong, and here is how to mend it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input from outside: a file, a row, a key, a value, a missing extra.

    The message stands alone: it names the file, line or key, says what is wrong and what to do.
    The command line prints it without a traceback and exits with code 2.
    """
