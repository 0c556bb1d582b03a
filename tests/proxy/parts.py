"""A model server that does nothing, the proxy's configuration, and the proxy as a process."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml

ROOT = Path(__file__).parent.parent.parent
LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
READY_SECONDS = 400.0
"""It is ready within half a minute, on a machine that has nothing else to do."""
KEYS = {"sk-SECRET-marker-1": "key-leaked", "sk-SECRET-marker-2": "key-quiet"}
"""The secret that a client sends, to the id by which the proxy knows it."""

AUTH = f"""
from litellm.proxy._types import UserAPIKeyAuth

KEYS = {KEYS!r}


async def check(request, api_key):
    if api_key not in KEYS:
        raise Exception("unknown key")
    return UserAPIKeyAuth(api_key=KEYS[api_key], org_id="acme")
"""


class _Model(BaseHTTPRequestHandler):
    """Answers as the chat API of OpenAI does; the usage is what the caller asked for as the limit."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 1000, "completion_tokens": body.get("max_tokens", 5)}
        usage["total_tokens"] = sum(usage.values())
        head = {"id": f"chatcmpl-{time.monotonic_ns()}", "created": int(time.time()), "model": body["model"]}
        if body["model"] == "refuses":
            self._send(429, "application/json", json.dumps({"error": {"message": "slow down", "code": "x"}}).encode())
        elif body.get("stream"):
            delta = {"index": 0, "delta": {"role": "assistant", "content": "PROMPT-marker"}, "finish_reason": None}
            end = {"index": 0, "delta": {}, "finish_reason": "stop"}
            chunk = head | {"object": "chat.completion.chunk"}
            parts = [chunk | {"choices": [delta]}, chunk | {"choices": [end]}, chunk | {"choices": [], "usage": usage}]
            text = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
            self._send(200, "text/event-stream", text.encode())
        else:
            message = {"role": "assistant", "content": "PROMPT-marker"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            answer = head | {"object": "chat.completion", "choices": choices, "usage": usage}
            self._send(200, "application/json", json.dumps(answer).encode())

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Model:
    """The model server, in a thread."""

    def __enter__(self) -> Model:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def configuration(model_url: str, callbacks: list[str]) -> str:
    def model(name: str) -> dict[str, Any]:
        return {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": model_url, "api_key": "x"},
        }

    return yaml.safe_dump(
        {
            "model_list": [model("m-large"), model("refuses")],
            "litellm_settings": {"callbacks": callbacks, "num_retries": 0, "telemetry": False},
            "general_settings": {"custom_auth": "auth.check"},
        }
    )


class Proxy:
    """A LiteLLM proxy with our callback; give it back with `end`."""

    def __init__(self, folder: Path, port: int, model_url: str, callbacks: list[str], **environ: str) -> None:
        (folder / "auth.py").write_text(AUTH)
        (folder / "config.yaml").write_text(configuration(model_url, callbacks))
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "proxy.log"
        secret = f"sk-{os.urandom(32).hex()}"  # without a master key it does not start, custom_auth or not
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("OVERDRAW_", "LITELLM_"))}
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [LITELLM, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env={**plain, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": secret, **environ},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self) -> Proxy:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            try:
                with urlopen(f"{self.url}/health/liveliness", timeout=5):
                    return self
            except (URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(f"the proxy is not ready\n{self.said()}")

    def call(self, secret: str, model: str = "m-large", **body: Any) -> int:
        """The HTTP status of a chat call."""
        messages = [{"role": "user", "content": "PROMPT-marker"}]
        text = json.dumps({"model": model, "messages": messages, "user": "u-1", **body}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {secret}"}
        try:
            with urlopen(Request(f"{self.url}/v1/chat/completions", text, headers), timeout=60) as answer:
                answer.read()
                return int(answer.status)
        except HTTPError as error:
            return error.code

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
