"""The results whose pages are tested, made once each."""

from __future__ import annotations

import pytest

from flowsim.pipeline import Finished
from tests.report.pages import GREEN, MIXED, SWEEP, finished


@pytest.fixture(scope="session")
def green(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(GREEN, tmp_path_factory.mktemp("green"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(MIXED, tmp_path_factory.mktemp("mixed"), plots=False)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(SWEEP, tmp_path_factory.mktemp("swept"), plots=False)
