"""Every test finds the process as a program's start leaves it: signals, plug-ins."""

import gc
import signal
import sys
from functools import cache

import pytest
import typer.main

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

# While modules are imported and tests collected nothing is thrown away; to look for it
# took more than a third of that time.
gc.disable()

# A process answers one command line, which typer makes all commands for; here hundreds.
typer.main.get_command = cache(typer.main.get_command)


def pytest_collection_finish():
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def what_stays_is_not_looked_through():
    """Have the collector pass by all that was there before a file of tests."""
    gc.collect(1)
    gc.freeze()


@pytest.fixture(scope="session")
def two_processes():
    """Return two worker processes for all tests that want some: to start is slow."""
    from domainemo.processes import process_pool

    with process_pool(2) as started:
        yield started


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
    if PLUGIN not in "\n".join(sys.modules):  # quicker than to ask every name
        return {}
    return {n: m for n, m in sys.modules.items() if n.startswith(PLUGIN)}


def registered():
    registry = sys.modules.get("domainemo.registry")
    return registry._classes if registry else {}
