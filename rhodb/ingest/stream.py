"""A JSON object that is too large for memory: its long lists stay in the file and are read piece by piece."""

import codecs
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rhodb.ingest.fields import FormatError, step

LONG = 2**20
"""Characters from which a list of the top object stays in the file."""
MOST = 2**26
"""Characters that a single entry, and everything outside of the long lists, may have."""
CHUNK = 2**18
AT_THE_END = 16
"""An error so near to the end of what was read may only mean that more is to come."""
DECODER = json.JSONDecoder()


class LongList(Collection[Any]):
    """A list of the top object, read from the file whenever it is gone through."""

    def __init__(self, path: Path, key: str, length: int) -> None:
        self._path, self._key, self._length = path, key, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        with _opened(self._path) as text:
            for key in text.keys():  # noqa: SIM118  no dict
                if key == self._key:
                    yield from text.items()
                    return
                text.pass_over()

    def __contains__(self, value: object) -> bool:
        return any(item == value for item in self)


def read_large(path: Path) -> dict[str, Any]:
    """The top object with its long lists as `LongList`s. Goes through the whole file; raises FormatError."""
    value: dict[str, Any] = {}
    held = 0
    with _opened(path) as text:
        for key in text.keys():  # noqa: SIM118
            if isinstance(value.get(key), LongList):
                raise FormatError("stands there twice", step(key))
            start = text.place
            value[key] = _long_list(text, path, key) if text.next() == "[" else text.value()
            held += 0 if isinstance(value[key], LongList) else text.place - start
            if held > MOST:
                raise FormatError(f"holds more than {MOST >> 20} MiB outside of its lists: split it")
    return value


def _long_list(text: "_Text", path: Path, key: str) -> "list[Any] | LongList":
    """A list if it is short."""
    kept: list[Any] = []
    start, length = text.place, 0
    for item in text.items():
        length += 1
        if text.place - start <= LONG:
            kept.append(item)
        else:
            kept.clear()
    return kept if text.place - start <= LONG else LongList(path, key, length)


@contextmanager
def _opened(path: Path) -> "Iterator[_Text]":
    try:
        with path.open("rb") as file:
            yield _Text(file)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise FormatError("is nested too deeply") from error


class _Text:
    """The file's text, of which only the piece that is being read is held."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0
        self._text, self._at, self._ended = "", 0, False
        self._dropped, self._lines, self._column = 0, 0, 0
        """Characters and lines before the piece; characters of its first line before it."""

    @property
    def place(self) -> int:
        """Characters that were read."""
        return self._dropped + self._at

    def keys(self) -> Iterator[str]:
        """Keys of the top object; the caller reads each value before it goes on."""
        self._expect("{")
        if self.next() == "}":
            self._at += 1
        else:
            while True:
                if self.next() != '"':
                    raise self._error("Expecting property name enclosed in double quotes")
                key = self.value()
                self._expect(":")
                yield key
                if self._expect(",}") == "}":
                    break
        if self.next():
            raise self._error("Extra data")

    def items(self) -> Iterator[Any]:
        """Entries of the list that comes next."""
        self._expect("[")
        if self.next() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._expect(",]") == "]":
                return

    def pass_over(self) -> None:
        """Read the next value without holding it."""
        if self.next() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def next(self) -> str:
        """The next character that is no space, not yet read; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def value(self) -> Any:
        """The next value, whole."""
        self.next()
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos > len(self._text) - AT_THE_END
                passed = error.pos - self._at  # reading on moves the piece
                if not unfinished or not self._more():
                    self._at = min(self._at + passed, len(self._text))
                    raise self._error(error.msg) from error
                continue
            # A number near the end may go on: 0.|5 is 0 so far.
            length = end - self._at
            if end < len(self._text) - AT_THE_END or not self._more():
                break
        end = self._at + length
        if "\\u" in self._text[self._at : end]:
            try:
                json.dumps(found, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise FormatError("holds half a character (a lone surrogate)") from error
        self._at = end
        return found

    def _expect(self, characters: str) -> str:
        found = self.next()
        if not found or found not in characters:
            names = {"{": "an object", ":": "':' delimiter"}
            raise self._error(f"Expecting {names.get(characters, chr(39) + ',' + chr(39) + ' delimiter')}")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Read on, as much again as is held. False at the end."""
        if self._ended:
            return False
        self._drop()
        if len(self._text) > MOST:
            raise FormatError(f"holds a value of more than {MOST >> 20} MiB: split it")
        data = self._file.read(max(CHUNK, len(self._text)))
        pending = len(self._decoder.getstate()[0])
        try:
            self._text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise FormatError(f"is not UTF-8 (byte {self._bytes - pending + error.start})") from error
        self._bytes += len(data)
        self._ended = not data
        return not self._ended

    def _drop(self) -> None:
        """Forget what was read."""
        read, self._text = self._text[: self._at], self._text[self._at :]
        self._dropped += self._at
        self._at = 0
        self._column = len(read) - read.rfind("\n") - 1 if "\n" in read else self._column + len(read)
        self._lines += read.count("\n")

    def _error(self, message: str) -> FormatError:
        """What is wrong at the place where reading stopped."""
        cut = not self._text[self._at :].strip() and not self._more()
        self._drop()
        what = "is cut off" if cut else "is no JSON"
        return FormatError(f"{what}: {message} at line {self._lines + 1}, column {self._column + 1}")
