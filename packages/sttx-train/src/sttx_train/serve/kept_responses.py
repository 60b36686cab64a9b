"""What was read for each response that can be continued, in a store: any server over it continues it.

Knows ids; neither requests nor states.
"""

from __future__ import annotations

import re

import torch

from sttx_core.errors import CheckpointError
from sttx_core.saved_state import Line, State, checked
from sttx_train.serve.failures import RequestError, bad
from sttx_train.stores import StateStore, StoreConflict, StoreDown, StoreFull, pack, unpack

_NAME = re.compile(r"resp_[0-9a-f]{1,64}")
_FIELD, _MISSING = "previous_response_id", "previous_response_not_found"


class _About(State):
    vocabulary: Line


class KeptResponses:
    """The ids of responses, by the responses' names.

    Args:
        store: keeps them; those used least may be dropped.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def find(self, name: str, vocabulary: str) -> tuple[int, ...]:
        """Return what was read for a response.

        Args:
            name: of the response.
            vocabulary: SHA-256 of the tokenizer that is to read on.

        Raises:
            RequestError: it is not known, of another vocabulary, or damaged; or the store does not answer.
        """
        try:
            entry = self._store.read(f"response/{name}") if _NAME.fullmatch(name) else None
            if entry is None:
                raise bad(f"no response {name!r} to continue", _FIELD, _MISSING)
            meta, tensors = unpack(entry.data, f"response {name!r}")
            about = checked(_About, meta, "response")
        except StoreDown as error:
            raise store_is_down(error) from error
        except CheckpointError as error:
            raise bad(f"response {name!r} cannot be continued: {error}", _FIELD, _MISSING) from error
        if about.vocabulary != vocabulary:
            raise bad(f"response {name!r} is of a model with another vocabulary", _FIELD, _MISSING)
        return tuple(tensors["ids"].tolist())

    def put(self, name: str, ids: tuple[int, ...], vocabulary: str) -> None:
        """Keep what was read for a response; when it returns, a kill does not lose it.

        Raises:
            RequestError: the store does not answer, or has no room.
        """
        data = pack({"vocabulary": vocabulary}, {"ids": torch.tensor(ids, dtype=torch.int32)})
        try:
            self._store.write(f"response/{name}", data, expected=0)
        except StoreConflict:
            return  # a name is given once, so this is a repeated write of the same bytes
        except StoreDown as error:
            raise store_is_down(error) from error
        except StoreFull as error:
            raise RequestError(507, str(error), code="store_full") from error


def store_is_down(error: StoreDown) -> RequestError:
    """Return what a request is answered with that needs a store that does not answer."""
    return RequestError(503, str(error), code="store_down")
