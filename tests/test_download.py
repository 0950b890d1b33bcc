"""Downloading: a server in a thread that offers, breaks off, changes or refuses files.

Takes 6 s.
"""

import hashlib
import http.server
import logging
import os
import signal
import socket
import stat
import threading
from pathlib import Path

import pytest

import domainemo.data.download as module
from domainemo.data.download import download
from domainemo.errors import ConfigurationError, DataError, DomainemoError

DATA = Path(
    os.environ.get("DOMAINEMO_DATA")
    or Path(__file__).parents[1].parent / "shared" / "data"
)
RECORDINGS = [f"Subject{n:02d}_{part}.edf" for n in range(36) for part in (1, 2)]
LIST = "SHA256SUMS.txt"


def content(name):
    return f"recording {name} ".encode() * 5000


def checksum(data):
    return hashlib.sha256(data).hexdigest()


class Server:
    """Offers files; `do` makes something else of a request for a name."""

    def __init__(self):
        self.files = {name: content(name) for name in RECORDINGS}
        self.files["README.txt"] = b"Please cite."
        lines = [f"{checksum(data)} {name}\n" for name, data in self.files.items()]
        self.files[LIST] = "".join(lines).encode()
        self.asked = []
        self.do = {}
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/files/eegmat/1.0.0/"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()

    def _handler(server):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path.startswith("/files/eegmat/1.0.0/")
                name = self.path.rsplit("/", 1)[1]
                server.asked.append(name)
                if name in server.do:
                    server.do[name](self)
                elif name in server.files:
                    send(self, server.files[name])
                else:
                    self.send_error(404)

            def log_message(self, *_):
                pass

        return Handler


def send(handler, data, length=None):
    handler.send_response(200)
    handler.send_header("Content-Length", str(length or len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def break_off(handler):
    """Promise a whole file, send half of it and hang up."""
    name = handler.path.rsplit("/", 1)[1]
    whole = content(name)
    send(handler, whole[: len(whole) // 2], length=len(whole))
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_complete(folder):
    assert names(folder) == sorted([*RECORDINGS, LIST])
    for name in RECORDINGS:
        assert (folder / name).read_bytes() == content(name)


@pytest.fixture
def logged():
    """What is logged anywhere, from information upwards."""
    records, handler, root = [], logging.Handler(), logging.getLogger()
    handler.emit, level = records.append, root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield records
    root.setLevel(level)
    root.removeHandler(handler)


def test_everything_is_fetched(server, tmp_path, logged, capfd):
    told = []
    folder = tmp_path / "new" / "folder"
    paths = download("eegmat", folder, lambda *at: told.append(at), url=server.url)
    assert paths == [folder / name for name in RECORDINGS]
    assert_complete(folder)
    assert server.asked == [LIST, *RECORDINGS]
    assert told == [(n, 72, name) for n, name in enumerate(RECORDINGS, 1)]
    assert capfd.readouterr() == ("", "")
    assert not [each for each in logged if each.name.startswith("pooch")]
    # Readable for the same people as any other file that is written here.
    (tmp_path / "other").write_text("x")
    mode = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    if os.name == "posix":
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {mode}


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    download("eegmat", tmp_path, url=server.url)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / RECORDINGS[3]).unlink()
    (tmp_path / RECORDINGS[7]).write_bytes(content(RECORDINGS[7])[:-1])
    server.asked.clear()
    told = []
    download("eegmat", tmp_path, lambda *at: told.append(at), url=server.url)
    assert server.asked == [RECORDINGS[3], RECORDINGS[7]]
    assert_complete(tmp_path)
    for path, time in times.items():
        if path.name not in server.asked:
            assert path.stat().st_mtime_ns == time
    assert len(told) == 72


def test_a_complete_folder_needs_no_server(tmp_path, server):
    download("eegmat", tmp_path, url=server.url)
    server.close()
    assert len(download("eegmat", tmp_path, url=server.url, retries=0)) == 72


def test_a_broken_connection_is_resumed(server, tmp_path):
    server.do[RECORDINGS[2]] = break_off
    with pytest.raises(DomainemoError) as caught:
        download("eegmat", tmp_path, url=server.url, retries=0)
    assert_helps(caught.value, server.url + RECORDINGS[2], "1 attempts", "wget")
    assert names(tmp_path) == sorted([LIST, *RECORDINGS[:2]])
    server.do.clear()
    server.asked.clear()
    download("eegmat", tmp_path, url=server.url)
    assert server.asked == RECORDINGS[2:]
    assert_complete(tmp_path)


def test_it_is_tried_again(server, tmp_path):
    def once(handler):
        del server.do[RECORDINGS[1]]
        break_off(handler)

    server.do[RECORDINGS[1]] = once
    download("eegmat", tmp_path, url=server.url, retries=1)
    assert server.asked.count(RECORDINGS[1]) == 2
    assert_complete(tmp_path)


def assert_helps(error, *fragments):
    message = str(error)
    assert "\n" not in message and "expected" in message
    for fragment in fragments:
        assert fragment in message, message


def test_a_file_that_was_changed_on_the_way_is_not_kept(server, tmp_path):
    server.files[RECORDINGS[4]] = content(RECORDINGS[4])[:-1] + b"!"
    with pytest.raises(DataError) as caught:
        download("eegmat", tmp_path, url=server.url, retries=0)
    assert_helps(caught.value, server.url + RECORDINGS[4], LIST, "wget -r", server.url)
    assert names(tmp_path) == sorted([LIST, *RECORDINGS[:4]])


def test_a_changed_file_does_not_replace_the_one_here(server, tmp_path):
    (tmp_path / RECORDINGS[0]).write_bytes(b"own")
    server.files[RECORDINGS[0]] = b"changed"
    with pytest.raises(DataError):
        download("eegmat", tmp_path, url=server.url, retries=0)
    assert (tmp_path / RECORDINGS[0]).read_bytes() == b"own"


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"\xff\xfe", b""])
def test_a_page_in_place_of_the_list_is_not_kept(server, tmp_path, page):
    whole = server.files[LIST]
    server.files[LIST] = page
    with pytest.raises(DataError) as caught:
        download("eegmat", tmp_path, url=server.url, retries=0)
    assert_helps(caught.value, LIST, "no checksum for 72 files, Subject00_1.edf first")
    assert names(tmp_path) == []
    (tmp_path / LIST).write_bytes(page)
    server.files[LIST] = whole
    download("eegmat", tmp_path, url=server.url)
    assert_complete(tmp_path)


def test_lists_as_sha256sum_writes_them(server, tmp_path):
    text = server.files[LIST].decode().replace(" ", "  *").replace("\n", "\r\n")
    server.files[LIST] = text.encode()
    download("eegmat", tmp_path, url=server.url)
    assert len(names(tmp_path)) == 73


def test_no_server(server, tmp_path):
    server.close()
    with pytest.raises(DomainemoError) as caught:
        download("eegmat", tmp_path / "a folder", url=server.url, retries=0)
    assert caught.value.exit_code == 1
    command = (
        f"wget -r -N -np -nH --cut-dirs=3 -P '{tmp_path / 'a folder'}' {server.url}"
    )
    assert_helps(caught.value, server.url + LIST, "ConnectionError", command)


def test_a_server_without_the_file(server, tmp_path):
    del server.files[RECORDINGS[0]]
    with pytest.raises(DomainemoError, match=r"404.*Check the network"):
        download("eegmat", tmp_path, url=server.url, retries=0)


def test_a_full_disk(server, tmp_path, monkeypatch):
    import pooch

    class Full(pooch.HTTPDownloader):
        def __call__(self, url, output_file, *rest, **options):
            super().__call__(url, output_file, *rest, **options)
            if url.endswith(RECORDINGS[1]):
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch, "HTTPDownloader", Full)
    with pytest.raises(DomainemoError) as caught:
        download("eegmat", tmp_path, url=server.url, retries=0)
    assert_helps(caught.value, str(tmp_path / RECORDINGS[1]), "No space left", "room")
    assert names(tmp_path) == [LIST, RECORDINGS[0]]


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DomainemoError, match="could not be written") as caught:
        download("eegmat", tmp_path / "file" / "below", url=server.url, retries=0)
    assert_helps(caught.value, str(tmp_path / "file" / "below"))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX signals")
def test_ctrl_c_leaves_no_half_file(server, tmp_path):
    done = threading.Event()

    def interrupt(handler):
        whole = content(RECORDINGS[5])
        send(handler, whole[: len(whole) // 2], length=len(whole))
        handler.wfile.flush()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        done.wait(20)

    server.do[RECORDINGS[5]] = interrupt
    with pytest.raises(KeyboardInterrupt):
        download("eegmat", tmp_path, url=server.url)
    done.set()
    assert names(tmp_path) == sorted([LIST, *RECORDINGS[:5]])
    server.do.clear()
    download("eegmat", tmp_path, url=server.url)
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("seed-iv", ["signed request", "academic", "bcmi.sjtu.edu.cn", "--data-root"]),
        ("deap", ["signed", "permanent position", "qmul.ac.uk"]),
        ("dreamer", ["on request", "546113", "zenodo"]),
        ("esports", ["CC BY 4.0", "github.com/smerdov", "windows of features"]),
        ("ssvep-exo", ["CC0", "github.com/sylvchev", "windows of features"]),
        ("simulated", ["nothing to download"]),
        ("eegmad", ["no dataset called 'eegmad'", "Did you mean 'eegmat'"]),
    ],
)
def test_other_data_sets_say_who_offers_them(tmp_path, name, fragments):
    with pytest.raises(ConfigurationError) as caught:
        download(name, tmp_path / "folder")
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert not (tmp_path / "folder").exists()


def test_every_data_set_of_files_says_its_terms():
    """A reader of this package is either fetched or explained."""
    readers = Path(module.__file__).parent / "readers"
    text = "".join(path.read_text("utf-8") for path in readers.glob("*.py"))
    registered = {
        line.split('"')[1] for line in text.splitlines() if "@register(" in line
    }
    assert registered >= {"eegmat", "esports", "ssvep-exo"}
    assert registered - {"eegmat"} == set(module._TERMS)
