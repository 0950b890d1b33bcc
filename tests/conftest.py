"""Every test finds signals answered as a program's start leaves them."""

import signal
import sys

import pytest


@pytest.fixture(autouse=True)
def signals_are_put_back():
    """The command line answers them to the end of its process; here tests follow."""
    kinds = [signal.SIGINT, signal.SIGTERM]
    kinds += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    before = {kind: signal.getsignal(kind) for kind in kinds}
    report = sys.unraisablehook
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)
    sys.unraisablehook = report
