"""One process for one request: loads the model, says that it is ready, answers once, and ends with all that it saw.

Prompt text stays in an engine's memory long after the answer; a process that ends takes it along.  It speaks over its
standard input and output only: frames of a 4-byte length and JSON.  The library insists on a server; it gets a UNIX
socket in a private folder, where nobody knocks, and never a TCP port.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")
MAX_FRAME = 1 << 20
_PR_SET_DUMPABLE = 4


def write_frame(stream: BinaryIO, document: dict[str, Any]) -> None:
    """Send one JSON document."""
    data = json.dumps(document).encode()
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next document, or None where the stream ends, or holds none."""
    head = stream.read(LENGTH.size)
    if len(head) != LENGTH.size or LENGTH.unpack(head)[0] > MAX_FRAME:
        return None
    data = stream.read(LENGTH.unpack(head)[0])
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _confine() -> None:
    """No core dump, no file of any size, no look from other processes of the user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _load(model: str, context: int, threads: int, socket: str) -> Any:
    import xllamacpp  # noqa: PLC0415 - the engine extra, and only in this process

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = "model"
    params.n_ctx = context
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_prompt = False  # on by default, an oracle across users
    params.cache_ram_mib = 0
    params.endpoint_slots = False
    params.endpoint_props = False
    params.endpoint_metrics = False
    params.ui = False
    params.verbosity = 0
    params.warmup = False
    params.fit_params = False  # would load everything twice to fit it into a GPU's memory
    params.offline = True
    params.hostnames = [socket]
    return xllamacpp.Server(params)


def _answer(found: Any) -> dict[str, Any]:
    """What may leave of the library's answer: no timings, no cache figures, no path, no text of its errors."""
    error = found.get("error") if isinstance(found, dict) else None
    if error is not None:
        return {"error": "too-large" if error.get("type") == "exceed_context_size_error" else "failed"}
    choice, usage = found["choices"][0], found["usage"]
    return {
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
    }


def main() -> None:
    """Arguments: path of the model, tokens of context, threads, a folder for the socket, which the parent removes."""
    model, context, threads, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # whatever the library writes goes nowhere
    os.dup2(null, 2)
    _confine()
    server = _load(model, context, threads, str(Path(folder, "s.sock")))
    # Said when asked for, and not before: what a process said that died since would still lie in the pipe.
    if read_frame(source) is not None:
        write_frame(sink, {"ready": True})
    request = read_frame(source)
    if request is not None:
        write_frame(sink, _answer(server.handle_chat_completions(request)))
    os._exit(0)  # without the library's own end, which waits for its threads


if __name__ == "__main__":
    main()
