"""What is worth keeping between commands: files in the user's cache folder that may be deleted at any time.

A file is written whole or not at all, so that processes may write at once. A folder that cannot be written costs time,
never an error.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from rhodb.errors import InputError
from rhodb.place import for_reading, write_whole


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/rhodb`, else `~/.cache/rhodb`. It may not exist yet."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "rhodb"
    try:
        return Path.home() / ".cache" / "rhodb"
    except RuntimeError:  # a user without a home, as in containers: a place where nothing can be kept
        return Path(os.devnull) / "rhodb"


def keep(path: Path, text: str) -> None:
    """Write a cache file in one step; nothing happens where the folder cannot be written."""
    with contextlib.suppress(OSError):
        write_whole(path, text.encode())


def file_digest(path: Path) -> str:
    """SHA-256 of one file, remembered by path, size and modification time. OSError where it cannot be read."""
    stat = path.stat()
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    store = cache_folder() / "fingerprints.json"
    known = read_object(store)
    if not isinstance(digest := known.get(key), str):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        keep(store, json.dumps(known | {key: digest}, indent=0))
    return digest


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a cache file; empty where it is absent or not what was written."""
    try:
        content = json.loads(for_reading(path).read_text(encoding="utf-8"))
    except (InputError, OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
