from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("evalkit", deadline=None)
settings.load_profile("evalkit")

# No test may reach for the network: evalkit must work where there is none.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data" / "real"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: give --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_root() -> str:
    """A small root of real pictures in the official formats; it lies beside the checkout, where there is one."""
    if not REAL.is_dir():
        pytest.skip("the real-image data root is not here")
    return str(REAL)


@pytest.fixture(scope="session")
def tiny_backend():  # type: ignore[no-untyped-def]
    """The bundled checkpoint on the CPU in fp32, opened as any checkpoint is."""
    from evalkit import registry
    from evalkit.checkpoint import resolve_checkpoint
    from evalkit.types import Batching

    return registry.backends.get("hf").open(
        resolve_checkpoint("tiny"), device="cpu", dtype="float32", batching=Batching(16)
    )
