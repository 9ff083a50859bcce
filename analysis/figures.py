"""What all figures share: one style, and saving as PNG and SVG. Imports matplotlib; the colours stand in `colours`."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.colours import GREY
from rhodb.errors import InputError
from rhodb.place import for_folder, for_output, write_whole

CHARACTERS_PER_INCH: Final = 15
"""Of a caption, at its size."""

STYLE: Final[dict[Any, Any]] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "svg.hashsalt": "rhodb",
}


def styled() -> AbstractContextManager[None]:
    """The style while a figure is drawn: matplotlib looks at it as each element is made."""
    return mpl.rc_context(STYLE)


def canvas(
    columns: int, *, width: float = 5.0, height: float = 3.8, rows: int = 1, heights: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with `rows` x `columns` axes of the given size in inches, and its axes row by row.

    `heights` are the proportions of the rows; none: all alike.
    """
    figure = Figure(figsize=(columns * width, rows * height + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    return figure, [axis for row in axes for axis in row]


def legend_below(axis: Axes) -> None:
    """The legend under the axis, where it hides nothing."""
    axis.legend(loc="upper left", bbox_to_anchor=(0.0, -0.16), borderaxespad=0.0)


def label(axis: Axes, *, title: str, x: str, y: str) -> None:
    """Title and axis labels, with units in parentheses."""
    axis.set_title(title, loc="left")
    axis.set_xlabel(x)
    axis.set_ylabel(y)


def interval_rows(axis: Axes, names: Sequence[str]) -> None:
    """Rows 0, 1, ... from top to bottom with names on the left."""
    axis.set_yticks(range(len(names)), list(names), fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


MAKER: Final = "rhodb analyze"
"""Who made a figure, in its metadata."""
_KINDS: ContextVar[tuple[str, ...]] = ContextVar("kinds", default=("png", "svg"))


def _is_ours(head: bytes) -> bool:
    return b"Software\0" + MAKER.encode() in head or f"<dc:title>{MAKER}</dc:title>".encode() in head


@contextmanager
def png_only() -> Iterator[None]:
    """No SVG meanwhile, for those who need the PNG alone: half the time."""
    token = _KINDS.set(("png",))
    try:
        yield
    finally:
        _KINDS.reset(token)


def save(figure: Figure, folder: Path, name: str, caption: str) -> list[Path]:
    """Write NAME.png and NAME.svg with the caption below the axes. Raises InputError if the folder is unusable."""
    lines = textwrap.wrap(caption, int(CHARACTERS_PER_INCH * figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")
    paths = [for_output(for_folder(folder) / f"{name}.{kind}", _is_ours) for kind in _KINDS.get()]
    try:
        for path in paths:
            picture = io.BytesIO()
            # The name tells a figure of ours, which may be replaced; a date would make equal figures differ.
            made_by = {"Software": MAKER} if path.suffix == ".png" else {"Creator": MAKER, "Date": None}
            with mpl.rc_context({"svg.hashsalt": MAKER}):
                figure.savefig(picture, format=path.suffix[1:], dpi=150, metadata=made_by)
            write_whole(path, picture.getvalue())
    except OSError as error:
        raise InputError(f"the figure {paths[0]} cannot be written: {error.strerror}") from error
    return paths
