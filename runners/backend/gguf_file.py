"""A GGUF file read by `gguf`, the format's own Python package, which knows how every type of tensor is packed."""

from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from rhodb.errors import InputError

try:
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize
except ModuleNotFoundError as missing:
    raise InputError("reading GGUF files needs the package gguf: install rhodb[gguf]") from missing


class PackageFile:
    """Metadata as plain values, and tensors expanded to float32 one at a time."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is none, or is cut; InputError for a tensor of a type without numbers."""
        try:
            reader = GGUFReader(path)
        except (KeyError, IndexError, OverflowError, AttributeError) as error:  # what it meets in other files' bytes
            raise ValueError(f"it is no whole GGUF file ({type(error).__name__}: {error})") from error
        self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.names = set(self._tensors)
        for tensor in reader.tensors:
            _check_type(path, tensor)
        counts = Counter(tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1)
        self.types = [name for name, _ in counts.most_common()]
        """Types of its matrices, the most frequent first."""

    def tensor(self, name: str) -> mx.array:
        """A tensor's numbers, rows first."""
        tensor = self._tensors[name]
        return mx.array(np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))


def _check_type(path: Path, tensor: Any) -> None:
    """Raises InputError for a type that the package cannot expand (integers, layouts for one kind of processor)."""
    kind = GGMLQuantizationType(tensor.tensor_type)
    try:
        dequantize(tensor.data.reshape(-1, tensor.data.shape[-1])[:1], kind)
    except (NotImplementedError, ValueError) as error:
        raise InputError(
            f"{path}: tensor {tensor.name} is of type {kind.name}, which cannot be expanded here"
        ) from error
