"""What stands behind every gateway that is measured: nginx with answers in its configuration, and
in front of it nginx once more, as the limit of what a reverse proxy can reach."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tools.bench.machine import free_port, pinned, tool, tree, wait_for_port

WORDS = (
    "The quick brown fox jumps over the lazy dog near the quiet river bank while autumn leaves "
    "drift slowly down onto the cold water. "
)
CHAT = {
    "id": "chatcmpl-canned00000000000000000000",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "canned",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": WORDS * 3, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 120,
        "completion_tokens": 80,
        "total_tokens": 200,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
MESSAGE = {
    "id": "msg_canned000000000000000000",
    "type": "message",
    "role": "assistant",
    "model": "canned",
    "content": [{"type": "text", "text": WORDS * 3}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 120, "output_tokens": 80},
}

_CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  {server}
}}
"""
_CANNED = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location = /v1/chat/completions {{ return 200 '{chat}'; }}
    location = /v1/messages {{ return 200 '{message}'; }}
  }}
"""
_PROXY = """
  upstream canned {{ server 127.0.0.1:{canned}; keepalive 512; keepalive_requests 1000000000; }}
  upstream paced {{ server 127.0.0.1:{paced}; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    location / {{ proxy_pass http://canned; }}
    location /paced/ {{ proxy_pass http://paced/; }}
  }}
"""


@contextlib.contextmanager
def _nginx(folder: Path, core: int, port: int, server: str) -> Iterator[list[int]]:
    """Yields the process ids of its workers."""
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, server=server))
    log = folder / "out.log"
    command = [tool("nginx", "nginx-light"), "-p", str(folder), "-c", str(configuration)]
    with pinned(command, core, log=log) as process:
        wait_for_port(port, process, log)
        yield tree(process.pid)[1:]


@contextlib.contextmanager
def upstream(folder: Path, core: int) -> Iterator[int]:
    """The canned vendor; yields its port."""
    port = free_port()
    server = _CANNED.format(port=port, chat=json.dumps(CHAT), message=json.dumps(MESSAGE))
    with _nginx(folder, core, port, server):
        yield port


@contextlib.contextmanager
def reverse_proxy(
    folder: Path, core: int, canned: int, paced: int
) -> Iterator[tuple[int, list[int]]]:
    """nginx in front of the canned vendor; yields its port and its workers."""
    port = free_port()
    server = _PROXY.format(port=port, canned=canned, paced=paced)
    with _nginx(folder, core, port, server) as workers:
        yield port, workers
