"""The failures that lenet expects, each with the exit code that the command line ends with."""


class LenetError(Exception):
    """Something a user can act on: said in one line, without a traceback."""

    exit_code = 1


class UsageError(LenetError):
    """Options or settings that make no sense, alone or together."""

    exit_code = 2


class DeviceUnusable(LenetError):
    """The device or backend that was asked for cannot run here: the ``reason``, and a ``hint`` what to do."""

    exit_code = 3

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason, self.hint = reason, hint


class Unsupported(LenetError):
    """A backend or executor cannot serve this network or type of number; the message names what it cannot do."""


LONGEST = 200
"""Characters of a bad file that a message repeats at most."""


def shown(value: object) -> str:
    """Return a value that a file held as a message shows it: its ``repr``, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        return f"a {type(value).__name__} that is too large to be shown"
    return shortened(text)


def in_one_line(text: str) -> str:
    """Return a text as one line without control characters: nothing that a file held commands the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def shortened(text: str) -> str:
    """Return a text, cut where it is long."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
