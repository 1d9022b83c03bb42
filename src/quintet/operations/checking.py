"""`doctor`: whether this machine and installation can train, and what they have."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import torch
from pydantic import Field

from quintet.data.published import data_root
from quintet.modalities.options import OPTIONS
from quintet.operations.events import OnEvent, operation
from quintet.operations.requests import DoctorRequest
from quintet.operations.results import Result
from quintet.runs.folder import runs_root
from quintet.training.engine import has_bf16

PACKAGES = (
    "quintet",
    "torch",
    "numpy",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "cyclopts",
    "rich",
    "pillow",
)
EXTRAS = {"hf": "sources hf:owner/name"} | {
    name: what for kind in OPTIONS.values() for name, what in kind.extras.items()
}
"""What can be installed besides, as `pip install 'quintet[NAME]'`, and what for."""
LITTLE = 2**30
"""Bytes of free disk below which a run may not fit."""


def extras() -> dict[str, list[str]]:
    """The packages of each extra that are not installed."""
    try:
        wanted = requires("quintet") or []
    except PackageNotFoundError:  # run from its sources without being installed
        return {}
    lacking: dict[str, list[str]] = {}
    for line in wanted:
        package, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if extra and extra[1] in EXTRAS:
            lacking.setdefault(extra[1], [])
            name = re.split(r"[^\w.-]", package.strip())[0]
            try:
                version(name)
            except PackageNotFoundError:
                lacking[extra[1]].append(name)
    return lacking


class DoctorResult(Result):
    """Versions, processor, memory and disk; and the problems that stand in the way of training."""

    versions: dict[str, str]
    system: str
    cores: int | None
    threads: int
    device: str
    bf16: bool
    runs: str
    disk_free: int
    extras: dict[str, list[str]]
    data_root: str
    data_root_exists: bool
    problems: list[str]
    purposes: dict[str, str] = Field(exclude=True)
    """What each extra is for."""


@operation
def doctor(request: DoctorRequest, on_event: OnEvent) -> DoctorResult:
    """Check this machine and installation."""
    problems: list[str] = []
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if name != "quintet":  # run from its sources
                problems.append(f"{name} is not installed")
    root = runs_root(request.runs).absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < LITTLE:
        problems.append(f"{free / 2**20:.0f} MB free on the disk of {root}: a run may not fit")
    if not there.is_dir() or not os.access(there, os.W_OK):
        problems.append(f"cannot write to {there}: runs are kept in {root}, choose another with --runs or QUINTET_RUNS")
    major_minor = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if major_minor < (2, 10):
        problems.append(f"torch {torch.__version__} is older than 2.10")
    cuda = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = torch.device("cuda" if cuda else "cpu")
    facts: dict[str, Any] = {
        "versions": versions,
        "system": platform.platform(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "bf16": has_bf16(device),
        "runs": str(root),
        "disk_free": free,
        "extras": extras(),
        "data_root": str(data_root()),
        "data_root_exists": data_root().is_dir(),
        "problems": problems,
    }
    return DoctorResult(**facts, purposes=EXTRAS)
