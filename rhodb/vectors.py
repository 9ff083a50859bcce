"""The warehouse as a cache of sentence vectors: table `embeddings`."""

import os
from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, text

from rhodb.records import ModelRecord
from rhodb.rows import bulk_insert, ensure_model, model_id
from rhodb.warehouse import Warehouse

AT_A_TIME = 5000
"""Hashes a query: SQLite takes 32,766 parameters."""


class WarehouseVectors:
    """Vectors kept in a warehouse, which is created at the first write; with `keep=False` nothing is written."""

    def __init__(self, db: str | os.PathLike[str] | None, *, keep: bool = True) -> None:
        self._db, self._keep = db, keep

    def read(self, model: ModelRecord, hashes: Sequence[str]) -> Mapping[str, bytes]:
        """Those of the hashed texts whose vectors are there."""
        wh = Warehouse.peek(self._db)
        if wh is None:
            return {}
        with wh, wh.read() as connection:
            number = model_id(connection, model.key, model.fingerprint)
            query = text(
                "SELECT text_hash, vector FROM embeddings WHERE model_id = :model AND text_hash IN :hashes"
            ).bindparams(bindparam("hashes", expanding=True))
            found: dict[str, bytes] = {}
            for start in range(0, len(hashes), AT_A_TIME):
                wanted = {"model": number, "hashes": list(hashes[start : start + AT_A_TIME])}
                found |= {key: bytes(vector) for key, vector in connection.execute(query, wanted)}
            return found

    def write(self, model: ModelRecord, vectors: Mapping[str, bytes]) -> None:
        """Add vectors. Those that another process added meanwhile stay as they are."""
        if not self._keep:
            return
        with Warehouse.open(self._db) as wh, wh.write() as connection:
            number = ensure_model(connection, model)
            known = set(
                connection.execute(
                    text("SELECT text_hash FROM embeddings WHERE model_id = :model"), {"model": number}
                ).scalars()
            )
            rows = [(number, key, vector) for key, vector in vectors.items() if key not in known]
            bulk_insert(connection, "embeddings", ("model_id", "text_hash", "vector"), rows)
