"""Every test finds the process as a program's start leaves it: signals, plug-ins."""

import signal
import sys

import pytest

KINDS = [signal.SIGINT, signal.SIGTERM]
KINDS += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script: whatever a test starts would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for kind in KINDS[1:]:
    if signal.getsignal(kind) is signal.SIG_IGN:
        signal.signal(kind, signal.SIG_DFL)
AT_START = {kind: signal.getsignal(kind) for kind in KINDS}
REPORT = sys.unraisablehook
PLUGIN = "domainemo_plugin_"


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


@pytest.fixture(autouse=True)
def plugins_are_put_back():
    """What a test imports and registers is not the next one's; what was there stays."""
    modules, classes = plugins(), dict(registered())
    yield
    for name in plugins().keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)
    known = registered()
    built_in = {k: c for k, c in known.items() if c.__module__.startswith("domainemo.")}
    known.clear()
    known.update(built_in | classes)


def plugins():
    return {n: m for n, m in sys.modules.items() if n.startswith(PLUGIN)}


def registered():
    registry = sys.modules.get("domainemo.registry")
    return registry._classes if registry else {}
