"""`rhodb browse`: look at the warehouse in a web browser."""

from typing import Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, example

app = make_app("Look at the warehouse in a web browser, read-only.", no_args_is_help=False)


@app.command(**example("rhodb browse", "rhodb browse --port 9000 --open"))
def browse(
    db: DbOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one.")] = 8001,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the default browser.")] = False,
) -> None:
    """Serve the warehouse with Datasette on this machine, to whoever opens the printed link, until Ctrl-C."""
    from rhodb.browse import serve
    from rhodb.location import locate

    def announce(link: str) -> None:
        typer.echo(f"the warehouse is at {link} (Ctrl-C ends)")
        if open_browser:
            import webbrowser

            webbrowser.open(link)

    serve(locate(db), port=port, announce=announce)
