"""The backends ``vllm`` and ``sglang``: the ``server`` backend, with servers that evalkit starts itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from evalkit import chat_template, registry
from evalkit.chat_template import read_template
from evalkit.checkpoint import Checkpoint
from evalkit.checkpoint_files import loaded_files
from evalkit.endpoint import PIXEL_LIMITS, Endpoint, ServedModel
from evalkit.engines import Engine, engine_arguments
from evalkit.errors import RunFailed, UserError
from evalkit.interfaces import Backend
from evalkit.launching import EngineOptions, Launch
from evalkit.model.server.backend import LONGEST_SHARE, ServerBackend, ServerBackendFactory
from evalkit.model.server.concurrency import ConcurrencyLimiter
from evalkit.model.server.discovery import software
from evalkit.model.server.http import Connection
from evalkit.model.server.image_uuids import ServerImages
from evalkit.types import Batching, Request, Response

from .engines import EngineKind, ServerSpec
from .limits import PromptLimits, prompt_limits
from .placement import places
from .replica import QUIET_SECONDS, Fleet, Replica, ReplicaLost
from .shared_queue import Share, SharedQueue

log = logging.getLogger(__name__)

RESUME = "answers so far are saved; run the same command to resume"
DTYPES = ("auto", "float32", "bfloat16", "float16")


class LaunchedBackend(ServerBackend):
    """Sends requests to servers that evalkit has started.

    Args:
        checkpoint: as the first of them offers it.
        title: the engine, with its version.
        limits: what the servers have room for.
        seconds: how long their start took.
    """

    def __init__(self, checkpoint: Checkpoint, fleet: Fleet, title: str, limits: PromptLimits, seconds: float) -> None:
        super().__init__(checkpoint)
        engine = self.served.engine
        assert engine is not None
        self.name = self.served.says["owned_by"]
        self.fleet = fleet
        self._title = title
        self._limits = limits
        self._seconds = seconds
        first, *others = fleet.replicas
        self._lanes = [(first, self._connection, self.limiter, self._sent_images[0])]
        for replica in others:
            endpoint = replace(self.served.endpoint, base_url=replica.url)
            limiter = ConcurrencyLimiter(endpoint.concurrency, slow=endpoint.timeout * LONGEST_SHARE)
            self._sent_images.append(ServerImages(self._images))
            self._lanes.append((replica, Connection(endpoint, None), limiter, self._sent_images[-1]))

    def describe(self) -> Mapping[str, Any]:
        """The servers with their commands, and how requests were sent to them."""
        engine = self.served.engine
        assert engine is not None
        devices = ", ".join("+".join(place) for place in engine.places)
        return {
            **super().describe(),
            "backend": self.name,
            "device": devices,
            "device_name": f"{self._title}, {devices}" if devices != "auto" else self._title,
            "dtype": engine.dtype if engine.dtype != "auto" else "the server's",
            "concurrency_reached": sum(limiter.highest for _, _, limiter, _ in self._lanes),
            "engine": {
                **engine.to_dict(),
                "version": self._title.partition(" ")[2] or None,
                "servers": [
                    {"command": list(replica.command), "log": replica.log_path.name, "restarts": replica.restarts}
                    for replica in self.fleet.replicas
                ],
                "limits": {"tokens": self._limits.tokens, "images": self._limits.images, "videos": self._limits.videos},
                "start_seconds": round(self._seconds, 1),
            },
        }

    async def _answer(
        self, requests: Sequence[Request], deliver: Callable[[Response], None], stop: Event | None
    ) -> None:
        queue = SharedQueue(requests)
        lost: list[str] = []
        lanes = [asyncio.ensure_future(self._serve(lane, queue, deliver, stop, lost)) for lane in self._lanes]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        if queue.unanswered and not (stop is not None and stop.is_set()):
            raise RunFailed(f"no server is left ({'; '.join(lost)}); {RESUME}.")

    async def _serve(
        self,
        lane: tuple[Replica, Connection, ConcurrencyLimiter, ServerImages],
        queue: SharedQueue,
        deliver: Callable[[Response], None],
        stop: Event | None,
        lost: list[str],
    ) -> None:
        """Answer requests with one server, until all are answered or it cannot be restarted."""
        replica, connection, limiter, images = lane
        share = Share(queue)

        def answered(response: Response) -> None:
            share.answered(response.id)
            deliver(response)

        while queue.unanswered and not (stop is not None and stop.is_set()):
            if not queue:  # others may still give requests back
                queue.changed.clear()
                if len(lost) == len(self._lanes) - 1:
                    return
                await queue.changed.wait()
                continue
            try:
                client = self._client(connection, limiter, images, answered, stop, replica, replica.name)
                await client.run(share)
            except ReplicaLost as error:
                lost.append(str(error))
                share.give_back()
                if len(lost) < len(self._lanes):
                    log.warning("%s; its unanswered requests go to the other servers", error)
                return
        queue.changed.set()

    def close(self) -> None:
        """Stop the servers."""
        self.fleet.end()


class LaunchedBackendFactory(ServerBackendFactory):
    """Starts an engine's servers."""

    remote = False
    launches = True

    def __init__(self, kind: EngineKind) -> None:
        self.name = kind.backend
        self._kind = kind

    def connect(self, model: str | None, endpoint: Endpoint) -> Checkpoint:
        """It connects to no server that runs already."""
        raise UserError(f"--base-url: the backend {self.name} starts its own servers; use --backend server.")

    def identity(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> Mapping[str, Any]:
        """The backend with the dtype that was asked for, and the user's arguments that answers may depend on."""
        engine = _engine_of(checkpoint)
        return {
            "backend": self.name,
            "dtype": "the server's" if dtype == "auto" else dtype,
            "quantization": None,
            **engine.identity(),
        }

    def launchable(self, checkpoint: Checkpoint, options: EngineOptions) -> Checkpoint:
        """The checkpoint as a model that a server of this engine will offer.

        Raises:
            UserError: the engine is not installed, or cannot be used with these options.
        """
        if options.dtype not in DTYPES:
            raise UserError(f"--dtype {options.dtype}: use one of {', '.join(DTYPES)}.")
        arguments = engine_arguments(options.arguments)
        command, version = self._kind.find(options)
        where = places(
            options.device, options.gpus_per_worker, _weights_of(checkpoint), _heads_of(checkpoint.config)
        )  # fmt: skip
        engine = Engine(self._kind.title, version, command, arguments, where, options.dtype)
        template, tokens = read_template(Path(checkpoint.location))
        template = checkpoint.chat_template or template
        # vLLM is told the limits of images with each request, the others when they are started.
        endpoint = replace(options.endpoint, keys=(), pixel_limits=PIXEL_LIMITS[self.name != "vllm"])
        served = ServedModel(
            endpoint,
            {"id": checkpoint.name, "owned_by": self._kind.owner, "root": checkpoint.location},
            engine.label,
            checkpoint.location,
            same_machine=True,
            family=options.family,
            lineage=(checkpoint.location,),
            prompt_end="" if template is None else chat_template.prompt_end(template, tokens),
            switches=None if template is None else chat_template.switches_of(template),
            engine=engine,
        )
        return replace(checkpoint, served=served)

    def open(self, checkpoint: Checkpoint, *, device: str, dtype: str, batching: Batching = Batching()) -> Backend:
        """Servers are started for the requests of a run: see ``launch``."""
        raise UserError(f"the backend {self.name} needs the requests of a run to start its servers.")

    def launch(self, checkpoint: Checkpoint, launch: Launch) -> Backend:
        """Servers for a run, once they are ready.

        Raises:
            UserError: the engine does not know an argument.
            RunFailed: a server did not start.
        """
        engine = _engine_of(checkpoint)
        assert checkpoint.served is not None
        served = checkpoint.served
        launch.report("measuring the prompts")
        limits = prompt_limits(checkpoint, registry.families.get(served.family), launch.requests(), launch.sizes)
        count = len(engine.places)
        template = None if launch.chat_template is None else str(launch.chat_template)

        def replica(number: int, place: tuple[str, ...]) -> Replica:
            def command(port: int, name: str) -> tuple[Sequence[str], dict[str, str]]:
                spec = ServerSpec(
                    checkpoint, name, port, limits, place, count, engine.dtype, engine.arguments, template
                )  # fmt: skip
                return self._kind.command(engine.command, spec), self._kind.environment(spec)

            label = engine.label if count == 1 else f"{engine.label}, server {number} of {count}"
            log_path = launch.folder / ("engine.log" if count == 1 else f"engine-{number}.log")
            patience = served.endpoint.patience
            return Replica(label, checkpoint.name, command, log_path, QUIET_SECONDS if patience is None else patience)

        fleet = Fleet([replica(number, place) for number, place in enumerate(engine.places, start=1)])
        seconds = fleet.start(engine.label, launch.report, launch.stop)
        try:
            first = fleet.replicas[0]
            endpoint = replace(served.endpoint, base_url=first.url)
            title = engine.label if engine.version is not None else software(self._kind.owner, endpoint, None)
            return LaunchedBackend(
                replace(checkpoint, location=first.name, served=replace(served, endpoint=endpoint)),
                fleet, title, limits, seconds,
            )  # fmt: skip
        except BaseException:
            fleet.end()
            raise


def _engine_of(checkpoint: Checkpoint) -> Engine:
    assert checkpoint.served is not None
    assert checkpoint.served.engine is not None
    return checkpoint.served.engine


def _weights_of(checkpoint: Checkpoint) -> int:
    """The size of the weights in bytes."""
    files = loaded_files(Path(checkpoint.location), pickled=checkpoint.pickled)["weights"]
    return sum(path.stat().st_size for path in files)


def _heads_of(config: Mapping[str, Any]) -> int | None:
    """The attention heads of the language model."""
    for part in (config.get("text_config"), config):
        heads = part.get("num_attention_heads") if isinstance(part, Mapping) else None
        if isinstance(heads, int):
            return heads
    return None
