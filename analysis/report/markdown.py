"""A report as Markdown with its figures beside it. A computed number is a link to its address at the end."""

import json
import re
from pathlib import Path
from typing import Final

from analysis.report.document import Address, Cell, Chart, Commands, Figure, Part, Report, Section, Table, Text
from rhodb.errors import InputError
from rhodb.place import Kind, for_folder, for_output, look, write_whole

LINK: Final = re.compile(r"\[((?:\\.|[^\]\\])*)\]\(#([ac]\d+b?)\)")
"""A computed cell: text and address (of this report, of an earlier one, of a count)."""
_RUNS: Final = re.compile(r"\brun IN \(((?:'[0-9a-f-]{36}'(?:, )?)+)\)")
_UUID: Final = re.compile(r"([0-9a-f]{8})-[0-9a-f-]{27}")
_FIRST: Final = re.compile(rb"# [^\n]+\n\n[^\n]+, rhodb \S+\. Warehouse: ")
"""How a report begins; see `render`."""
_SPECIAL: Final = re.compile(r"([\\\[\]|<*])")
_ESCAPED: Final = re.compile(r"\\([\\\[\]|<*])")


def unescape(text: str) -> str:
    """What `_cell` has escaped."""
    return _ESCAPED.sub(r"\1", text)


def is_report(head: bytes) -> bool:
    """Whether a Markdown file that begins so is a report of ours."""
    return _FIRST.match(head) is not None


def is_document(head: bytes) -> bool:
    """Whether a JSON file that begins so is a report's."""
    return head.startswith(b"{") and b'"rhodb_version"' in head


def places(path: Path) -> tuple[Path, Path, Path]:
    """The Markdown file, the JSON beside it, the folder of figures. Raises InputError where something else stands.

    The figures belong to the Markdown: without it, the folder must be free or empty.
    """
    ours = look(path).kind is not Kind.FREE
    found = for_output(path, is_report)
    folder = for_folder(found.with_name(f"{found.stem}_figures"))
    if not ours and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is a folder with files, but its report {found} is not there: choose another name")
    return found, for_output(found.with_suffix(".json"), is_document), folder


def write(report: Report, path: Path) -> list[Path]:
    """PATH.md, PATH.json beside it, and the figures in PATH_figures/. Raises InputError if it cannot be written."""
    from analysis.report.drawing import draw, with_palette

    path, side, folder = places(path)
    pictures: dict[str, bytes] = {}
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Figure):
                pictures[_name(section, part)] = with_palette(part.png)
            elif isinstance(part, Chart) and part.rows:
                pictures[_name(section, part)] = with_palette(draw(part))
    try:
        write_whole(path, render(report, folder.name).encode())
        write_whole(side, json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False).encode())
        folder.mkdir(exist_ok=True)
        for name, content in pictures.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise InputError(f"the report cannot be written to {path}: {error.strerror}") from error
    return [path, side, *(folder / name for name in pictures)]


def render(report: Report, folder: str) -> str:
    """The Markdown; `folder` holds the figures."""
    facts = ", ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in report.warehouse.items() if value is not None
    )
    chosen = ", ".join(f"{key} {_option(value)}" for key, value in report.options.items() if value)
    lines = [
        f"# {report.title}", "", f"{report.created}, rhodb {report.rhodb_version}. Warehouse: {facts}. {chosen}.", "",
        "Every computed number is a link to its address at the end: where it comes from, and how to get it again. "
        "`rhodb report --verify` checks them all.",
        "", *(f"- [{section.title}](#{section.key})" for section in report.sections),
    ]  # fmt: skip
    for section in report.sections:
        lines += ["", f'<a id="{section.key}"></a>', "", f"## {section.title}", "", section.intro]
        if section.missing:
            lines += ["", section.missing]
        for part in section.parts:
            lines += ["", *_part(section, part, folder)]
    methods: dict[str, str] = {}
    """Method with reference -> its key: most addresses share a few."""
    lines += ["", "## Addresses", ""]
    for key, address in report.addresses.items():
        lines.append(_address(key, address, methods))
    lines += ["", "## Methods", ""]
    lines += [f'- <a id="{key}"></a>**{key}** {_plain(method)}' for method, key in methods.items()]
    lines += ["", "## Queries", ""]
    for key, query in report.queries.items():
        lines += [f'<a id="{key}"></a>', f"**{key}**", "", "```sql", f"{query.ready};", "```", ""]
    lines += ["## Versions", ""]
    lines += [
        f"- **{key}**: " + ", ".join(f"{name} {version}" for name, version in versions.items())
        for key, versions in report.versions.items()
    ]
    return "\n".join(lines) + "\n"


def _option(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _part(section: Section, part: Part, folder: str) -> list[str]:
    if isinstance(part, Text):
        mark, gap = ("- ", []) if part.listed else ("", [""])
        return [line for item in part.items for line in (mark + _cell(item), *gap)]
    if isinstance(part, Commands):
        return [f"**{part.title}**", "", "```bash", *part.lines, "```"]
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Chart) and not part.rows:
        return []
    alt = part.alt if isinstance(part, Figure) else f"{part.title}: {len(part.rows)} values"
    picture = f"![{alt}]({folder}/{_name(section, part)})"
    return [f"**{part.title}**", "", picture, *(["", f"*{part.caption}*"] if part.caption else [])]


def _table(table: Table) -> list[str]:
    rows = [
        "| " + " | ".join(_plain(column.title) for column in table.columns) + " |",
        "|" + "".join("---:|" if column.numeric else "---|" for column in table.columns),
        *("| " + " | ".join(_cell(cell) for cell in row.cells) + " |" for row in table.rows),
    ]
    return [f"**{table.title}**", "", *rows, *(["", f"*{table.caption}*"] if table.caption else [])]


def _cell(cell: Cell) -> str:
    """A label as it is; what was computed as a link to its address."""
    if isinstance(cell, str):
        return _plain(cell)
    text = _SPECIAL.sub(r"\\\1", cell.text)
    return f"[{text}](#{cell.address})"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _name(section: Section, part: Figure | Chart) -> str:
    """File name of a figure, safe on every file system."""
    return re.sub(r"[^\w.-]+", "-", f"{section.key}-{part.key}") + ".png"


def _address(key: str, address: Address, methods: dict[str, str]) -> str:
    parts = [address.pick]
    if address.query:
        # Eight characters tell runs apart, here as in `rhodb runs show`; the JSON beside the file has them whole.
        narrow = _RUNS.sub(lambda found: "substr(run, 1, 8) IN (" + _UUID.sub(r"\1", found[1]) + ")", address.narrow)
        where = f" WHERE {narrow}" if narrow else ""
        parts.append(f"rows: [{address.query}](#{address.query}){_plain(where)}")
    if address.command:
        parts.append(f"`{address.command}`")
    if address.run_count:
        # A run that the condition on the rows names is not named again; eight characters find the others.
        others = [run[:8] for run in address.runs if run not in address.narrow]
        more = ", ..." if address.run_count > len(address.runs) else ""
        named = f": {', '.join(others)}{more}" if others else ""
        parts.append(f"{address.run_count} run{'' if address.run_count == 1 else 's'}{named}")
    if address.configs:
        parts.append("configurations: " + ", ".join(config[:12] for config in address.configs))
    parts += [f"versions: {', '.join(address.versions)}"] if address.versions else []
    method = "; ".join(filter(None, (address.method, address.reference)))
    if method:
        name = methods.setdefault(method, f"m{len(methods) + 1}")
        parts.append(f"[{name}](#{name})")
    return f'- <a id="{key}"></a>**{key}** ' + "; ".join(_plain(part) for part in parts if part)
