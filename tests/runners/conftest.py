"""Models for the tests: a tiny random one, and the embedded SmolLM2 for the slow tests."""

import pytest
from tiny_model import make_tiny_model

from runners.backend.models import LoadedModel, load_model


@pytest.fixture
def tiny_model() -> LoadedModel:
    """A fresh tiny model for each test, which may change it."""
    return make_tiny_model()


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The embedded model, shared by the slow tests: leave it as it is."""
    return load_model("smollm2-135m")
