"""One error tree. The library raises errors named by condition; only the command line turns them into text."""


class RhodbError(Exception):
    """Base of every error that rhodb raises on purpose. The message is one sentence for a person."""

    exit_code = 1


class InputError(RhodbError):
    """A wrong input: says what was wrong, where, and what to do. Nothing has been written."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that is not in a closed set; the message lists the choices."""

    def __init__(self, what: str, name: str, choices: "list[str] | tuple[str, ...]") -> None:
        super().__init__(f"unknown {what} {name!r}; choose from {', '.join(choices)}")
        self.what, self.name, self.choices = what, name, tuple(choices)


class DatabaseError(InputError):
    """The warehouse cannot be used as it is: not a database, newer schema, read-only, no such folder."""


class DatabaseBusyError(RhodbError):
    """The warehouse stayed locked (or the disk full) beyond the time limit; nothing has been lost."""
