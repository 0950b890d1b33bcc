"""Every test finds signals answered as a program's start leaves them."""

import signal
import sys

import pytest

KINDS = [signal.SIGINT, signal.SIGTERM]
KINDS += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
AT_START = {kind: signal.getsignal(kind) for kind in KINDS}
REPORT = sys.unraisablehook


@pytest.fixture(autouse=True)
def signals_are_put_back():
    """The command line answers them to the end of its process; here tests follow.

    Before a test as well: a module's fixture may have run a command.
    """
    put_back()
    yield
    put_back()


def put_back():
    for kind, handler in AT_START.items():
        signal.signal(kind, handler)
    sys.unraisablehook = REPORT
