"""Reading other programs' result files into the warehouse: `ingest` for files and trees, formats declared as data."""

from rhodb.ingest.driver import FileReport, IngestReport, ingest

__all__ = ["FileReport", "IngestReport", "ingest"]
