"""The claims take as long as all other sections together and need none of them: a second process checks them."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse


@contextmanager
def ahead(wh: "Warehouse", *, wanted: bool) -> Iterator[Mapping[str, Callable[[], Any]]]:
    """What is computed meanwhile: name -> wait for it and take it.

    The process starts afresh (spawn), so the caller must be a program whose main module can be imported again.
    """
    if not wanted or wh.location.path is None:
        yield {}
        return
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        waiting = pool.submit(_claims, str(wh.location.path))

        def claims() -> Any:
            try:
                return waiting.result()
            except BrokenProcessPool:  # it was killed: then here
                return _claims(str(wh.location.path))

        yield {"claims": claims}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _claims(path: str) -> Any:
    from analysis.claims import verify
    from analysis.stored import no_garbage_collection
    from rhodb.warehouse import Warehouse

    with no_garbage_collection(), Warehouse.open(path, create=False, read_only=True) as wh:
        return verify(wh)
