"""Moving data between warehouses and out of them: export, import, merge."""

from rhodb.transfer.export import Exported, export_all, export_query
from rhodb.transfer.load import load_export
from rhodb.transfer.merge import MergeReport, merge

__all__ = ["Exported", "MergeReport", "export_all", "export_query", "load_export", "merge"]
