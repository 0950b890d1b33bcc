"""Runs commands in one process that notes whatever they touch outside their folder.

``python guarded.py ALLOWED STRANGERS`` reads a JSON list of commands from its input,
each a folder, arguments and whether a report's figures are drawn, and writes for each
how it ended and what it did: code from the folder STRANGERS that ran, files changed
outside ALLOWED, processes, connections, pickles.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import platform
import sys
from pathlib import Path

from killing import undrawn

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
}
NEVER = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "sqlite3.enable_load_extension",
    "sqlite3.load_extension",
    "subprocess.Popen",
}

IMPORTED = (
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "matplotlib.font_manager",
    "optuna",
    "safetensors.torch",
    "torch._dynamo",
)

noted: list[str] = []
watching = False


def inside(path, folders):
    # Where a link leads is what counts.
    place = os.path.realpath(os.fsdecode(path))
    return any(place == each or place.startswith(each + os.sep) for each in folders)


def hook(event, arguments):
    global watching
    if not watching:
        return
    watching = False
    try:
        note(event, arguments)
    except Exception as error:
        noted.append(f"the guard failed: {event}: {error!r}")
    finally:
        watching = True


def note(event, arguments):
    if event in NEVER:
        noted.append(f"{event} {arguments[:2]!r}")
    elif event == "open":
        path, mode, flags = arguments
        changes = any(each in mode for each in "wax+") if mode else flags & WRITES
        named = isinstance(path, str | bytes | os.PathLike)
        if changes and named and not inside(path, ALLOWED):
            noted.append(f"wrote {path!r}")
    elif event in CHANGES:
        for path in arguments[:2]:
            named = isinstance(path, str | bytes | os.PathLike)
            # A rename or a removal is of the link; the others follow it.
            follows = event in ("os.chmod", "os.truncate")
            place = path if follows or not named else os.path.dirname(path) or "."
            if named and not inside(place, ALLOWED):
                noted.append(f"{event} {path!r}")
    elif event in ("exec", "compile", "import"):
        path = arguments[0].co_filename if event == "exec" else arguments[1]
        if isinstance(path, str) and "<" not in path and inside(path, STRANGERS):
            noted.append(f"{event} {path!r}")


def run(folder, arguments, drawn):
    global watching
    os.chdir(folder)
    noted.clear()
    page.render = render if drawn else undrawn
    sys.argv = ["domainemo", *arguments]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        watching = True
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            watching = False
    return {"code": code, "said": said.getvalue(), "noted": [*noted]}


if __name__ == "__main__":
    ALLOWED = [*map(os.path.realpath, sys.argv[1].split(os.pathsep)), "/dev/null"]
    STRANGERS = [os.path.realpath(sys.argv[2])]
    # What they import on the way, and the caches of that, are no stranger's.
    for name in IMPORTED:
        importlib.import_module(name)
    platform.processor()  # asks another program, once
    from domainemo.cli import main
    from domainemo.reports import page

    render = page.render
    sys.dont_write_bytecode = True
    sys.addaudithook(hook)
    commands = json.loads(sys.stdin.read())
    print(json.dumps([run(Path(each), *rest) for each, *rest in commands]))
