"""What a suite that is written for pytest-kind finds in its place: options, and podctl for a cluster."""
import os
import pathlib

import pytest


def pytest_addoption(parser):
    parser.addoption("--keep-cluster", action="store_true")


def pytest_collection_modifyitems(config, items):
    """Expects the tests of $PODCTL_TEST_MISSED to fail: `NAME: WHY` each; one behind a `?` may do either, and is left out."""
    lines = pathlib.Path(os.environ["PODCTL_TEST_MISSED"]).read_text().splitlines()
    missed = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
    for item in items:
        if why := missed.pop("?" + item.name, None):
            item.add_marker(pytest.mark.skip(reason=why))
        if why := missed.pop(item.name, None):
            item.add_marker(pytest.mark.xfail(reason=why, strict=True))
    if missed and not config.getoption("keyword"):
        raise pytest.UsageError(f"no such tests: {', '.join(missed)}")
