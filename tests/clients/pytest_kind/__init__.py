"""What a suite that is written for pytest-kind finds in its place: options, and podctl for a cluster."""


def pytest_addoption(parser):
    parser.addoption("--keep-cluster", action="store_true")
