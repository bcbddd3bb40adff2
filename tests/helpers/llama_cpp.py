"""llama.cpp's own server on loopback (PyPI `xllamacpp`), in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

MODEL = "smollm2"
KEY = "sk-of-the-tests"
SLOT = 4096
"""Tokens that fit into one request with its answer."""
_SLOTS = 4


class LlamaServer:
    """One server of one model; with `stop`, gone for good."""

    def __init__(self, gguf: Path, log: Path) -> None:
        """Start and wait until it answers. Raises RuntimeError with the log's end when it does not."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, __file__, str(gguf), str(self.port), KEY]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RuntimeError("the server did not come up: " + log.read_text(errors="replace")[-3000:])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _serve(gguf: str, port: str, key: str) -> None:
    """What that process does."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = gguf
    settings.model_alias = {MODEL}
    settings.port = int(port)
    settings.api_keys = [key]
    settings.n_ctx = SLOT * _SLOTS
    settings.n_parallel = _SLOTS
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1  # more wait for each other on a busy machine
    server = xllamacpp.Server(settings)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    _serve(*sys.argv[1:])
