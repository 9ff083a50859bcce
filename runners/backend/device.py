"""Which device MLX computes on. Nothing else asks the platform; code that differs by device asks `is_cpu`."""

import platform

import mlx.core as mx


def is_cpu() -> bool:
    """MLX's default device is the CPU."""
    return mx.default_device().type == mx.DeviceType.cpu


def device_name() -> str:
    """The default device for people and provenance: `cpu`, `gpu (Apple M3 Ultra)`, `cuda (NVIDIA H100)`."""
    if is_cpu():
        return "cpu"
    name = str(mx.device_info().get("device_name", platform.processor()))
    return f"cuda ({name})" if mx.cuda.is_available() else f"gpu ({name})"


def compute_dtype() -> mx.Dtype:
    """The fastest floating-point type: float32 on the CPU (bfloat16 is emulated there), bfloat16 on a GPU."""
    return mx.float32 if is_cpu() else mx.bfloat16
