"""Follows a run that goes on: when it saves a checkpoint, the server answers from that.

The run is another process, which need not have started. Knows checkpoints and the catalog; no requests.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from sttx_core.errors import SttxError
from sttx_train.checkpoint import CheckpointStore
from sttx_train.formats import LoadedModel
from sttx_train.serve.catalog import Catalog, Served, learned_model

_LOG = logging.getLogger(__name__)
_PAUSE = 5.0  # seconds between two looks


class FollowedRun:
    """The newest checkpoint of a run, as a model of a catalog.

    Args:
        catalog: gets the model, under the id that `Catalog.load` would give it.
        loaded: the model that the run learns with.
        run: the run's folder.
        say: is called with a sentence for each model that is served from then on.
        forget: is called with each model that is not served any more.

    Attributes:
        step: of the checkpoint that is served; None before the first.
    """

    def __init__(
        self,
        catalog: Catalog,
        loaded: LoadedModel,
        run: Path,
        say: Callable[[str], None] = _LOG.info,
        forget: Callable[[Served], object] = lambda served: None,
    ) -> None:
        self._catalog, self._loaded, self._run = catalog, loaded, Path(run)
        self._say, self._forget = say, forget
        self.step: int | None = None
        self._failed: int | None = None  # the step of a checkpoint that cannot be served
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="sttx-follow", daemon=True)

    def look(self) -> bool:
        """Serve the newest checkpoint, if it is another one than before; return whether it is.

        One that cannot be served is named in the log, once; the one before goes on answering.
        """
        step = CheckpointStore(self._run).last_step()
        if step is None or step in (self.step, self._failed):
            return False
        try:
            served = learned_model(self._loaded, self._run, experts=self._catalog.frozen.learner.own_experts)
        except (SttxError, OSError) as error:
            _LOG.warning("step %d of %r is not served: %s", step, str(self._run), error)
            self._failed = step
            return False
        if (before := self._catalog.put(served)) is not None:
            self._forget(before)
        self.step, self._failed = served.step, None
        self._say(f"serving: {served.id}, step {served.step}")
        return True

    def __enter__(self) -> FollowedRun:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ending.wait(_PAUSE):
            try:
                self.look()
            except Exception:  # noqa: BLE001  the server answers from what it has
                _LOG.exception("the run could not be followed")
