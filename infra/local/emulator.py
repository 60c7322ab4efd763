"""The emulator's own process: `python -m infra.local.emulator DATA_DIR`, started by the runner alone.

Its settings come from the environment the runner gives it; standard input is a pipe that the runner
holds open. When the pipe ends, the runner is gone, however it died, and the emulator stops as it does
for SIGTERM: state saved, no process left.

Around the emulator's application stand the journal of its tables, a base URL that stays the same over
deployments, and an address with which the runner has the state of every service saved. Its queues go on
where they stopped (queues.py).
"""

import asyncio
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack import app as ministack
from ministack.core.persistence import save_state
from ministack.services import apigateway_v1, dynamodb, lambda_svc, sqs

from infra.local import CHECKPOINT_PATH, DEPLOYED, DEPLOYING, REFUSAL, STACK
from infra.local.journal import BrokenJournalError, Journal
from infra.local.overlay import API_ALIAS
from infra.local.queues import LastingQueues
from infra.local.tables import DurableTables, flush, identity, saved_file

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ALIAS_PREFIX = f"/restapis/{API_ALIAS}/"
# Loading and saving a large state block the only thread there is; the server must not give up meanwhile.
_PATIENCE_SECONDS = 600.0
_GRACE_SECONDS = 1.0
_COPY_ATTEMPTS = 5
# A function starts a process for each request that finds all others busy, and asks us in turn; dozens at once bring a
# machine to a stop, and take the last of the emulator's threads, so that nobody is answered. On AWS each has a machine.
_REQUESTS_AT_ONCE = max(8, 4 * (os.cpu_count() or 1))


class DurableEmulator:
    """The emulator's ASGI application; what it answered is on disk."""

    def __init__(self, data_dir: Path) -> None:
        self._state = data_dir / "state"
        self._journal = Journal(data_dir / "journal")
        self._tables = DurableTables(dynamodb, self._journal, self._save_tables, give_up)
        self._before_stop: tuple[object, int] = (None, 0)
        self._places = asyncio.Semaphore(_REQUESTS_AT_ONCE)
        self.queues = LastingQueues(sqs, lambda_svc)
        self.queues.install()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope.get("path") == CHECKPOINT_PATH and scope["method"] == "POST":
            await self._checkpoint(send)
        elif scope.get("path", "").startswith(_ALIAS_PREFIX):
            received = await _received(receive)
            async with self._places:
                await ministack.app(_addressed(scope), received, send)
        else:
            await ministack.app(scope, receive, send)

    async def _live(self, scope: Message, receive: Receive, send: Send) -> None:
        troubles = _Troubles()

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._journal.quiet()
                self._before_stop = (identity(self._tables_file), self._journal.appended)
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                troubles.refuse(self._state)
                self._replay()
            elif message["type"] == "lifespan.shutdown.complete":
                self._end_journal()
            await send(message)

        await ministack.app(scope, receiving, sending)

    def _replay(self) -> None:
        try:
            self._tables.replay()
        except BrokenJournalError as exc:
            give_up(str(exc))
        self._tables.install()

    def _end_journal(self) -> None:
        """Clear the journal if the emulator did save the tables as it stopped; else the next start replays it."""
        saved = (identity(self._tables_file), self._journal.appended)
        if saved[0] != self._before_stop[0] and saved[1] == self._before_stop[1]:
            flush(self._tables_file)
            self._journal.clear()
        self._journal.close()

    @property
    def _tables_file(self) -> Path:
        return self._state / "dynamodb.json"

    def _save_tables(self) -> None:
        _save(self._state, "dynamodb", dynamodb.get_state)

    async def _checkpoint(self, send: Send) -> None:
        states = ministack._build_persistence_save_dict()
        # The record of the stack comes last: it must not claim resources that a crash in between did not save.
        others = [name for name in states if name not in ("dynamodb", "cloudformation")]
        for name in others:
            _save(self._state, name, states[name])
        await self._tables.checkpoint()
        _save(self._state, "cloudformation", states["cloudformation"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def _received(receive: Receive) -> Receive:
    """The request once all of its body is here: who sends slowly takes no place of another meanwhile."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    messages.reverse()

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _addressed(scope: Message) -> Message:
    """The request with the alias in its path replaced by the id that the API has now.

    A deployment that changes the definition of the API creates it anew. (The emulator can be told an id,
    but cannot deploy such an API a second time.)
    """
    apis = [api for api in apigateway_v1._rest_apis.all_values() if api["name"] == STACK]
    if not apis:
        return scope
    prefix = f"/restapis/{apis[-1]['id']}/"
    path = scope["path"].replace(_ALIAS_PREFIX, prefix, 1)
    raw_path = scope["raw_path"].replace(_ALIAS_PREFIX.encode(), prefix.encode(), 1)
    return {**scope, "path": path, "raw_path": raw_path}


def _save(directory: Path, name: str, state: Callable[[], Any]) -> None:
    """Save the state of one service. Raises OSError if it cannot be saved."""
    snapshot = _copied(state)
    if snapshot is not None:
        saved_file(directory / f"{name}.json", lambda: save_state(name, snapshot))


def _copied(state: Callable[[], Any]) -> Any:
    for _ in range(_COPY_ATTEMPTS - 1):
        try:
            return state()
        except RuntimeError:
            # A thread of the emulator changed the state while it was being copied.
            continue
    return state()


class _Troubles(logging.Handler):
    """What the emulator could not read as it started. It would log it, go on, and later save over it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: list[str] = []
        self._loggers = [logging.getLogger("persistence"), ministack.logger]
        for logger in self._loggers:
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage())

    def refuse(self, state: Path) -> None:
        """End the process if anything was found."""
        for logger in self._loggers:
            logger.removeHandler(self)
        if self._found:
            give_up(
                f"The saved state in {state} cannot be read ({'; '.join(self._found)}). Restore the file from a "
                "copy, or move the data directory away to start empty."
            )


def give_up(reason: str) -> NoReturn:
    """End the process at once, saving nothing; the runner shows the reason."""
    print(f"{REFUSAL}{reason}", file=sys.stderr, flush=True)
    os._exit(3)


def main(data_dir: Path) -> None:
    _allow_many_connections()
    asyncio.run(_serve(data_dir))
    # Whatever a Lambda function left running belongs to this process group, and nobody else will end it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)


async def _serve(data_dir: Path) -> None:
    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = 75
    # Connections that clients keep open without using them would otherwise hold up the stop for longer.
    config.graceful_timeout = _GRACE_SECONDS
    config.startup_timeout = config.shutdown_timeout = _PATIENCE_SECONDS
    emulator = DurableEmulator(data_dir)
    stop = _stop_trigger(emulator.queues.open)
    await serve(emulator, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]


def _stop_trigger(deployed: Callable[[], None]) -> asyncio.Event:
    """Set by SIGTERM, SIGINT or the end of the runner. `deployed` is called when the runner says so."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def wait_for_the_end_of_the_runner() -> None:
        said = b""
        # Not sys.stdin: Python cannot exit while a thread waits in it.
        while byte := os.read(0, 1):
            said = byte
            if said == DEPLOYED:
                deployed()
        if said == DEPLOYING:
            # Half a deployment must not be saved.
            os.killpg(os.getpgrp(), signal.SIGKILL)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_the_end_of_the_runner, daemon=True).start()
    return stop


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls the hard limit infinite and refuses to go there.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 10_240, hard))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
