"""vLLM's own OpenAI server, started faster. `cpu.py` starts it, in the engine's Python 3.11.

It does what vLLM's `api_server` program does, through the same functions, with four differences:

* The engine process is forked from this one. vLLM's CPU platform would start a new interpreter,
  which imports everything again, only to pin OpenMP threads (`cpu.py` turns that off).
* The model's class is imported and registered here, as vLLM allows for added models. Otherwise vLLM
  starts one more interpreter to inspect the class.
* The garbage collector is off while some hundred thousand lasting objects are made.
* The list of CPUs is vLLM's own fallback. vLLM would run `lscpu` in a shell, which no image has.

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
    """Parse the arguments and start the engine. Raises what vLLM raises."""
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
    """Serve until a signal. Returns 1 if the engine ends. The arguments are those of vLLM's server.

    A failed start is explained on standard error. Once it serves, nothing is printed: a traceback,
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
