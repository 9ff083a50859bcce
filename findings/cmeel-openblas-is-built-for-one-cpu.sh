#!/usr/bin/env bash
# cmeel-openblas on PyPI is built for one CPU family, SkylakeX (AVX-512), though its wheel is tagged for any x86-64.
#
# Seen with cmeel-openblas 0.3.31 on Linux x86-64. OpenBLAS is usually shipped with DYNAMIC_ARCH: it asks the CPU when it
# is loaded and takes the kernels that fit. This wheel's own openblas_config.h defines the core SKYLAKEX and AVX-512, and
# no DYNAMIC_ARCH; its library holds no table of kernels to choose from, so that OPENBLAS_CORETYPE changes nothing
# either. The tag says manylinux x86_64, which pip installs on every x86-64 machine, also those without AVX-512 (AMD
# before Zen 4, most of Intel's client chips). This script only reads the header and the symbols; it runs no kernel.
# Expected: DYNAMIC_ARCH, as in the builds inside NumPy's and SciPy's wheels, and in ngsolve-openblas (shown beside it).
#
# Output seen:
#   cmeel-openblas 0.3.31, tag py3-none-manylinux_2_28_x86_64
#   its header: core SKYLAKEX, AVX-512 yes, DYNAMIC_ARCH no
#   kernels of several CPU families inside: cmeel-openblas no, ngsolve-openblas yes
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-deps --target "$folder/packages" "cmeel-openblas==0.3.31" "ngsolve-openblas==0.3.33.post1"
cd "$folder"
cat > look.py <<'P'
import re
from pathlib import Path

packages = Path("packages")
tag = re.search(r"^Tag: (.*)$", next(packages.glob("cmeel_openblas-*/WHEEL")).read_text(), re.M)[1]
print("cmeel-openblas 0.3.31, tag", tag)
header = (packages / "cmeel.prefix/include/openblas/openblas_config.h").read_text()
core = re.search(r'OPENBLAS_CHAR_CORENAME "(\w+)"', header)[1]
avx512, dynamic = "OPENBLAS_HAVE_AVX512" in header, "DYNAMIC_ARCH" in header
word = {True: "yes", False: "no"}
print(f"its header: core {core}, AVX-512 {word[avx512]}, DYNAMIC_ARCH {word[dynamic]}")
several = {}
for name, pattern in (("cmeel-openblas", "cmeel.prefix/lib/libopenblas.so.0.3"), ("ngsolve-openblas", "ngsolve_openblas/*.so*")):
    library = next(packages.glob(pattern)).read_bytes()
    several[name] = all(b"sgemm_kernel_" + family in library for family in (b"HASWELL", b"ZEN", b"SKYLAKEX"))
print("kernels of several CPU families inside:", ", ".join(f"{name} {word[found]}" for name, found in several.items()))
assert "x86_64" in tag
assert (core, avx512, dynamic) == ("SKYLAKEX", True, False)
assert several == {"cmeel-openblas": False, "ngsolve-openblas": True}
P
"$folder/venv/bin/python" look.py
