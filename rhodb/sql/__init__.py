"""SQL that rhodb's own commands run, one documented file a query."""

from importlib.resources import files


def load(name: str) -> str:
    """The text of a query; parameters are written `:name`."""
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
