"""vLLM's own OpenAI server, started sooner. `cpu.py` starts it, in the engine's Python 3.11.

It does what vLLM's `api_server` program does, through the same functions, except for four things:

* The engine process is forked from this one. vLLM's CPU platform asks for a fresh interpreter, only
  to pin OpenMP threads (which `cpu.py` turns off), and that one imports everything again.
* The model's class is imported here and registered, as vLLM offers it for models of one's own.
  Otherwise vLLM starts one more interpreter to look at the class.
* The garbage collector rests while some hundred thousand objects are made that stay for good.
* The list of CPUs is vLLM's own fallback: it would run `lscpu` in a shell, and an image has none.

Together they save half of the start-up time, which is minutes on an emulated machine.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any


def _register_model(directory: Path) -> None:
    """Import the class of the model in `directory` and register it under its architecture."""
    from vllm.model_executor.models import ModelRegistry

    for architecture in json.loads((directory / "config.json").read_bytes())["architectures"]:
        known = ModelRegistry.models.get(architecture)
        if known is not None:
            ModelRegistry.register_model(architecture, known.load_model_cls())


async def _serve(arguments: Any, engine: Any) -> None:
    from vllm.entrypoints.launchers.api_server.entry import build_and_serve
    from vllm.entrypoints.launchers.launcher import setup_server

    address, listener = setup_server(arguments, reuse_port=False)
    # From here on a log line may quote a request.
    logging.disable(logging.CRITICAL)
    await (await build_and_serve(engine, address, listener, arguments))


def _start() -> tuple[Any, Any]:
    """Parse the arguments and start the engine; raises whatever vLLM raises."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils import cpu_resource_utils
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    cpu_resource_utils._get_cpu_list = cpu_resource_utils._synthesize_cpu_list

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args()
    validate_parsed_serve_args(arguments)
    _register_model(Path(arguments.model))
    options = AsyncEngineArgs.from_cli_args(arguments)
    config = options.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    gc.freeze()
    engine = AsyncLLM.from_vllm_config(
        vllm_config=config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=False,
        disable_log_stats=True,
    )
    return arguments, engine


def main() -> int:
    """Serve until a signal, or until the engine dies: 1. The arguments are vLLM's server's.

    Why it did not start is said on standard error. Once it serves, nothing is: also a traceback,
    here or in the engine's process, may quote a request.
    """
    console, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    gc.disable()
    try:
        import uvloop

        arguments, engine = _start()
    except (Exception, SystemExit) as error:
        said = f"vLLM does not start: {type(error).__name__}: {error}\n"
        os.write(console, said.encode())
        return 1
    os.close(console)
    gc.freeze()
    gc.enable()
    try:
        uvloop.run(_serve(arguments, engine))
    finally:
        engine.shutdown(timeout=0)
    return 1


if __name__ == "__main__":
    sys.exit(main())
