"""Parameters of a claim, read by name."""

from analysis.claims.claim import Claim
from analysis.claims.expression import Evaluated
from analysis.claims.inputs import Inputs
from rhodb.errors import InputError


def text(claim: Claim, name: str, default: str | None = None) -> str:
    """A parameter. Raises InputError where it is not given and has no default."""
    found = claim.parameters.get(name, default)
    if found is None:
        raise InputError(f"checker {claim.checker} needs the parameter {name}=...")
    return found


def number(claim: Claim, name: str, default: str | None = None) -> float:
    """A parameter that is a number."""
    found = text(claim, name, default)
    try:
        return float(found)
    except ValueError as error:
        raise InputError(f"parameter {name} must be a number, got {found!r}") from error


def whole(claim: Claim, name: str, default: str | None = None) -> int:
    """A parameter that is a whole number."""
    found = number(claim, name, default)
    if found != int(found):
        raise InputError(f"parameter {name} must be a whole number, got {found:g}")
    return int(found)


def names(claim: Claim, name: str, default: str | None = None) -> list[str]:
    """A parameter that is a list with commas."""
    return [part.strip() for part in text(claim, name, default).split(",") if part.strip()]


def formula(inputs: Inputs, claim: Claim, name: str) -> Evaluated:
    """A parameter that is an expression."""
    return inputs.evaluate(text(claim, name))
