"""vLLM's OpenAI-compatible server on loopback, for tests and benchmarks on a CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class Server:
    """One server; can be killed and started again on the same port."""

    def __init__(self, model: Path, log: Path, options: Sequence[str] = ()) -> None:
        """model: a Hugging Face folder, served under its name. log: file for the server's output."""
        self.model, self.log, self.options = model, log, list(options)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """For a judge spec: `dialogue@` + this."""
        return f"openai:http://127.0.0.1:{self.port}/v1#{self.model.name}"

    def start(self, patience: float = 420) -> None:
        """Start and wait until it answers. Raises RuntimeError with the log's end when it does not."""
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model)]
        command += ["--served-model-name", self.model.name, "--dtype", "float32", "--enforce-eager"]
        command += ["--max-model-len", "2048", "--host", "127.0.0.1", "--port", str(self.port), *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | ENVIRONMENT, start_new_session=True
            )
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            except OSError:
                time.sleep(1)
        self.kill()
        raise RuntimeError("the server did not come up: " + self.log.read_text(errors="replace")[-3000:])

    def answered(self) -> int:
        """Requests answered since the start, by the server's own count."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return int(sum(float(x.split()[-1]) for x in lines if x.startswith("vllm:request_success_total{")))

    def kill(self) -> None:
        """SIGKILL to the server and the engine processes it started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
