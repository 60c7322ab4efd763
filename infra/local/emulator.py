"""The emulator's own process: `python -m infra.local.emulator`, started by the runner and by nobody else.

Its settings come from the environment the runner gives it; standard input is a pipe that the runner
holds open. When the pipe ends, the runner is gone, however it died, and the emulator stops as it does
for SIGTERM: state saved, no process left.
"""

import asyncio
import os
import resource
import signal
import threading

from hypercorn.asyncio import serve
from hypercorn.config import Config

# Loading and saving a large state block the emulator's only thread; the server must not give up meanwhile.
_PATIENCE_SECONDS = 600.0


def main() -> None:
    _allow_many_connections()
    asyncio.run(_serve())
    # Whatever a Lambda function left running belongs to this process group, and nobody else will end it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)


async def _serve() -> None:
    from ministack.app import app

    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = 75
    config.startup_timeout = config.shutdown_timeout = _PATIENCE_SECONDS
    await serve(app, config, shutdown_trigger=_stop_trigger().wait)  # type: ignore[arg-type]


def _stop_trigger() -> asyncio.Event:
    """Set by SIGTERM, SIGINT or the end of the runner."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def wait_for_the_end_of_the_runner() -> None:
        # Not sys.stdin: Python cannot exit while a thread waits in it.
        os.read(0, 1)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_the_end_of_the_runner, daemon=True).start()
    return stop


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls the hard limit infinite and refuses to go there.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 10_240, hard))


if __name__ == "__main__":
    main()
