"""Two processes make a report: what one of them needs in no other section is made by the second meanwhile."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


@contextmanager
def meanwhile(function: Callable[P, T], *given: P.args, **named: P.kwargs) -> Iterator[Callable[[], T]]:
    """Calls the function in a second process; gives what waits for its result. If the process is killed, it runs here.

    The process starts afresh (spawn), so the caller must be a program whose main module can be imported again.
    """
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    try:
        waiting = pool.submit(function, *given, **named)

        def result() -> T:
            try:
                return waiting.result()
            except BrokenProcessPool:
                return function(*given, **named)

        yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
