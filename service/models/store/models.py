"""The models of a store: which version of each is served, and how another takes its place while requests run."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from elbound.bundle.signature import Trust, TrustedKeys
from elbound.device import cpu_workers
from elbound.errors import ElboundError
from service.errors import (
    ModelNotFound,
    NoShadow,
    NothingBefore,
    NotInStore,
    StoreUnreadable,
    VersionNotFound,
    VersionRefused,
)
from service.models.load import open_bundle
from service.models.registry import ServedModel
from service.models.serving import Serving
from service.models.store.loader import Loader, unless_stopping
from service.models.store.records import NOTHING, Refusal, StoreModel
from service.models.store.shadow import Shadow, Shadows
from service.models.store.source import Listing, Source, age
from service.models.store.trail import How, Trail

logger = logging.getLogger("elbound")


class _Found(NamedTuple):
    """The folder of a version, and what its files look like."""

    folder: Path
    shape: Hashable


class StoreModels:
    """Looks at the store again and again and serves what it says; one change at a time.

    Versions are read, checked and warmed up by one thread beside the event loop, and take their place in one step of
    the loop. Every request keeps the version with which it began.
    """

    def __init__(
        self,
        source: Source,
        serving: Serving,
        shadows: Shadows,
        warm_up: Callable[[ServedModel], Awaitable[None]],
        *,
        device: str,
        keys: TrustedKeys | None,
        max_bundle_bytes: int,
        load_timeout_s: float,
    ) -> None:
        self.source = source
        self.serving = serving
        self.shadows = shadows
        self.warm_up = warm_up
        self.device = device
        self.keys = keys
        self.max_bundle_bytes = max_bundle_bytes
        self.load_timeout_s = load_timeout_s
        self.models: dict[str, StoreModel] = {}
        self.problem: str | None = None
        """Why the store as a whole cannot be read."""
        self.complete = False
        """Whether there was a moment at which every name of the store was served."""
        self.changing = asyncio.Lock()
        cpu_workers()  # asked while no thread has lowered it
        self.aside = Loader()

    async def watch(self, stopping: asyncio.Event, *, poll_s: float) -> None:
        """Look every `poll_s` until `stopping` is set."""
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), poll_s)
                break
            try:
                await unless_stopping(self.look(), stopping)
            except Exception:
                logger.exception("the store could not be looked at")
        self.aside.close()

    async def look(self) -> None:
        """Serve what the store says now. What cannot be read or served is kept in mind, and what was served stays."""
        async with self.changing:
            try:
                names = await self.aside(self.source.names)
                self.problem = None
            except StoreUnreadable as error:
                self._tell(self.problem, error.message)
                self.problem, names = error.message, []
            for name in names:
                await self._look_at(name)
            for name in self.models.keys() - set(names) if self.problem is None else ():
                self._forget(name)
            empty = [model for model in self.models.values() if model.active is None and not model.unloaded]
            served = bool(self.serving.registry.models) and not empty
            self.complete = self.complete or (self.problem is None and served)
            self._show_problems()

    async def activate(self, name: str, version: str | None) -> StoreModel:
        """Pin a version for every replica and serve it here; None takes the pin away.

        Raises ModelNotFound, NotInStore, VersionNotFound, VersionRefused, StoreReadOnly, StoreUnreadable; then nothing
        has changed.
        """
        async with self.changing:
            return await self._activate(await self._known(name), version, "activated")

    async def roll_back(self, name: str) -> StoreModel:
        """Pin and serve the version that was served before. Raises as `activate`, and NothingBefore."""
        async with self.changing:
            model = await self._known(name)
            version = model.trail.before(model.active, model.listing) if model.active else None
            if version is None:
                raise NothingBefore(f"no version of {name} was served before {model.active}", where=name)
            return await self._activate(model, version, "rolled_back")

    async def load(self, name: str) -> None:
        """Serve what the store says of a name, after `unload` too. Raises ModelNotFound, NotInStore, VersionRefused."""
        async with self.changing:
            model = await self._known(name)
            model.unloaded = False
            await self._look_at(name)
            if model.active is None:
                reasons = [one.message for one in model.refused.values()] or [model.problem or "it has no version"]
                raise VersionRefused(f"nothing of {name} can be served: {reasons[0]}", where="name")

    async def unload(self, name: str) -> None:
        """Serve a name no more, in this process and until `load` or `activate`. Raises ModelNotFound, NotInStore."""
        async with self.changing:
            model = await self._known(name)
            self.shadows.stop(name)
            self.serving.end(name)
            model.active, model.unloaded = None, True

    async def shadow(self, name: str, version: str) -> Shadow:
        """Let a version of the store score what the live one scores. Raises as `activate`, and NoShadow."""
        async with self.changing:
            model = await self._known(name)
            live = self.serving.registry.get(name).scorer
            if version == model.active:
                raise NoShadow(f"{name} {version} is the live version", where="version")
            served = await self._wanted(model, version)
            return self.shadows.start(live, served)

    async def _look_at(self, name: str) -> None:
        """Follow one name: its pin, or the newest version that can be served, but never back to an older one."""
        model = self.models.get(name)
        try:
            listing = await self.aside(self.source.listing, name)
        except StoreUnreadable as error:
            if model is None:
                model = self.models[name] = StoreModel(name, await self.aside(self._read_trail, name))
            self._tell(model.problem, error.message)
            model.problem = error.message
            return
        if listing is None:
            self._forget(name)
            return
        if model is None:
            model = self.models[name] = StoreModel(name, await self.aside(self._read_trail, name))
        model.listing, model.problem = listing, None
        for version in model.refused.keys() - {*listing.versions, listing.pin}:
            self._accept(model, version)
        if model.unloaded:
            return
        active = model.active
        if listing.pin is not None:
            candidates = [listing.pin] if listing.pin != active else []
        else:
            candidates = list(takewhile(lambda one: active is None or age(one) > age(active), listing.versions))
        for version in candidates:
            found = await self._open(model, version)
            if isinstance(found, ServedModel):
                await self._swap(model, found, "found" if self.complete else "started")
                return

    async def _activate(self, model: StoreModel, version: str | None, how: How) -> StoreModel:
        if version is None:
            await self.aside(self.source.write_pin, model.name, None)
            await self._look_at(model.name)
            return model
        served = await self._wanted(model, version)
        await self.aside(self.source.write_pin, model.name, version)
        model.listing = Listing(model.listing.versions, version)
        if version != model.active:
            await self._swap(model, served, how)
        return model

    async def _known(self, name: str) -> StoreModel:
        """The model as the store has it now."""
        model = self.models.get(name)
        if model is None and name in self.serving.registry.models:
            raise NotInStore(f"{name} is a bundle of its own: the store has no versions of it", where="model")
        if model is None:
            raise ModelNotFound(f"the store has no model {name[:100]!r}", where="model")
        listing = await self.aside(self.source.listing, name)
        model.listing = listing or NOTHING
        return model

    async def _wanted(self, model: StoreModel, version: str) -> ServedModel:
        """A version that somebody asks for. Raises VersionNotFound, VersionRefused."""
        if version not in model.listing.versions:
            raise VersionNotFound(f"the store has no version {version[:100]!r} of {model.name}", where="version")
        if version == model.active:
            return self.serving.registry.get(model.name)
        found = await self._open(model, version, again=True)
        if isinstance(found, Refusal):
            raise VersionRefused(f"{model.name} {version} is refused: {found.message}", where=found.code)
        return found

    async def _open(self, model: StoreModel, version: str, *, again: bool = False) -> ServedModel | Refusal:
        """Load a version, unless it is there as the shadow, or was refused, has not changed and is not to be tried
        again."""
        shadow = self.shadows.running.get(model.name)
        if shadow is not None and shadow.served.scorer.version == version:
            return shadow.served
        known = model.refused.get(version)
        place = await self.aside(self._find, model, version, None if again else known)
        if isinstance(place, Refusal) and place is known:
            return place
        found = await self._load_in_time(model.name, version, place) if isinstance(place, _Found) else place
        self._accept(model, version)
        if isinstance(found, Refusal):
            model.refused[version] = found
            metrics = self.serving.metrics.store
            metrics.swaps.labels(model.name, "refused").inc()
            metrics.refused.labels(model.name, version, found.code).set(1)
            logger.error("%s %s is refused: %s", model.name, version, found.message)
        return found

    def _find(self, model: StoreModel, version: str, known: Refusal | None) -> "_Found | Refusal":
        """In the loader's thread: where a version lies, fetched if need be, or why it is not worth a try."""
        if version not in model.listing.versions:
            missing = Refusal("version_missing", f"ACTIVE names {version[:100]!r}, which the store does not have", ())
            return known if known == missing else missing
        shape = self.source.shape_of(model.name, version)
        if known is not None and known.shape == shape:
            return known
        if model.active is None and model.name in self.serving.registry.models:
            return Refusal("name_taken", f"a bundle that was given beside the store is named {model.name} too", shape)
        try:
            return _Found(self.source.folder(model.name, version), shape)
        except StoreUnreadable as error:
            unread = Refusal(error.code, error.message)
            return known if known == unread else unread
        except ElboundError as error:
            return Refusal(error.code, error.message, shape)

    async def _load_in_time(self, name: str, version: str, found: "_Found") -> ServedModel | Refusal:
        try:
            return await self.aside(self._load, name, version, found, within_s=self.load_timeout_s)
        except TimeoutError as error:
            return Refusal("load_timeout", f"it is not loaded: {error}", found.shape)

    def _load(self, name: str, version: str, found: "_Found") -> ServedModel | Refusal:
        """In the loader's thread; whatever is wrong with a bundle, the service goes on."""
        trust = Trust(self.keys, name, version)
        try:
            return open_bundle(found.folder, device=self.device, trust=trust, max_bytes=self.max_bundle_bytes)
        except ElboundError as error:
            return Refusal(error.code, error.message, found.shape)
        except Exception as error:
            logger.exception("%s %s cannot be loaded", name, version)
            return Refusal("load_failed", str(error) or type(error).__name__, found.shape)

    async def _swap(self, model: StoreModel, served: ServedModel, how: How) -> None:
        """From here on `served` answers to the name."""
        await self.warm_up(served)
        shadow = self.shadows.running.get(model.name)
        self.serving.begin(served)
        if model.active is not None:
            self.serving.metrics.store.swaps.labels(model.name, "swapped").inc()
        model.active, model.unloaded = served.scorer.version, False
        if shadow is not None:
            self.shadows.stay(served, shadow)
        model.trail.go(model.active, how)
        if (path := self._trail_file(model.name)) is not None:
            await self.aside(model.trail.save, path)

    def _accept(self, model: StoreModel, version: str) -> None:
        """Nothing is known against a version any more."""
        refusal = model.refused.pop(version, None)
        if refusal is not None:
            self.serving.metrics.store.refused.remove(model.name, version, refusal.code)

    def _forget(self, name: str) -> None:
        """A name without versions: what is served of it stays."""
        model = self.models.get(name)
        if model is None:
            return
        for version in list(model.refused):
            self._accept(model, version)
        model.listing = NOTHING
        if model.active is None:
            del self.models[name]
        else:
            self._tell(model.problem, problem := f"the store has no version of {name} any more")
            model.problem = problem

    def _show_problems(self) -> None:
        any_problem = self.problem or any(model.problem for model in self.models.values())
        self.serving.metrics.store.unreadable.set(1 if any_problem else 0)

    def _tell(self, known: str | None, problem: str) -> None:
        if problem != known:
            logger.error("%s; what is served stays", problem)

    def _read_trail(self, name: str) -> Trail:
        path = self._trail_file(name)
        return Trail() if path is None else Trail.read(path)

    def _trail_file(self, name: str) -> Path | None:
        folder = self.serving.drift.folder
        return None if folder is None else folder / f"{name}.versions.json"
