"""Command groups whose members are imported only when they are used, so that `rhodb --help` stays fast."""

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command as command_of


class LazyGroup(TyperGroup):
    """A group declared as a table: command name -> ("module:app", one-line summary)."""

    table: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = command_of(getattr(importlib.import_module(module), attribute))
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.table and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}; choose from {', '.join(self.table)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])


def make_app(help_text: str, **options: Any) -> typer.Typer:
    """A Typer application with rhodb's settings: plain help (fast, readable in logs), no traceback frames."""
    options = {"no_args_is_help": True, "add_completion": False} | options
    return typer.Typer(help=help_text, rich_markup_mode=None, pretty_exceptions_enable=False, **options)
