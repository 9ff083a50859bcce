"""What `rhodb doctor` checks, before a run makes a database: a problem refuses the run, a warning goes beside it.

MLX, its BLAS, the model and the probes are looked at by the process that loads them; it refuses in the same way.
"""

from rhodb.cli import doctor
from rhodb.cli.doctor import Finding
from rhodb.cli.output import note
from rhodb.errors import InputError


def check_machine(db: str | None) -> None:
    """The place and the disk of the warehouse. Raises InputError (DatabaseError) with the remedy."""
    from rhodb.location import locate
    from rhodb.place import for_warehouse

    location = locate(db)
    if location.path is not None:
        for_warehouse(location.asked or location.path, create=True)
        _heed(doctor.disk(location.path.parent))


def check_memory(needed: int) -> None:
    """Room for one worker at its peak (bytes). Raises InputError with the remedy."""
    _heed(doctor.memory(needed))


def _heed(finding: Finding) -> None:
    if finding.state == "problem":
        raise InputError(f"{finding.what}: {finding.found}: {finding.advice}")
    if finding.state == "warning":
        note(f"warning: {finding.what}: {finding.found}: {finding.advice}")
