"""llama.cpp's server without Antiphon, as somebody would start it for a few people, from the same library that is
Antiphon's engine: `python -m bench.cache_parts.bare_server MODEL PORT SEATS THREADS`.

Its slots share their memory and are given out by its own rule. Behind them it has, by default, a cache in the host's
memory to which idle prompts move.
"""

from __future__ import annotations

import sys
import threading

import xllamacpp

#: Tokens of each slot: more than the longest prompt.
_SLOT_TOKENS = 8_192


def _serve(model: str, port: str, seats: str, threads: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = int(port)
    params.n_parallel, params.n_ctx, params.kv_unified = int(seats), int(seats) * _SLOT_TOKENS, True
    # As Antiphon has them: weights that stay in memory, and no layout of the library's own choosing.
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.fit_params = params.ctx_shift = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    _kept = xllamacpp.Server(params)
    threading.Event().wait()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
