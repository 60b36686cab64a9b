"""What the pickle in a ``.pth`` describes: nested dictionaries of tensors, each by its place in the file.

No object of the pickle is made and none of its functions is called. Only the steps that `torch.save` writes
are followed, each of bounded cost; whatever is not a tensor, a container, a text or a number is `FOREIGN`.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from sttx_train.formats.tensorinfo import ITEM_BYTES, TensorInfo, checked_shape

FOREIGN: Any = type("Foreign", (), {"__repr__": lambda self: "FOREIGN"})()
"""Stands for any object that is not one of those known here."""

_MOST_STEPS = 500_000  # a model of 60 layers takes 80,000
_MOST_ARGUMENTS = 8
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_REBUILD = {f"torch._utils _rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")


class Storage(NamedTuple):
    """Bytes in the file, shared by any number of tensors."""

    key: str
    dtype: str
    elements: int

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.dtype]

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return self.elements * self.item_bytes


class StoredTensor(NamedTuple):
    """A tensor as it is saved: a view on a storage; offset and strides count elements."""

    info: TensorInfo
    storage: Storage
    offset: int
    stride: tuple[int, ...]


class _Global(NamedTuple):
    """A class or a function by name, such as ``torch FloatStorage``."""

    name: str


class PickleReader:
    """Follows the steps of one pickle after another.

    Attributes:
        seen: each tensor so far that came right after a text, by this text: what damage has left.
        storages: each storage so far, by its key.
    """

    def __init__(self) -> None:
        self.seen: dict[str, StoredTensor] = {}
        self.storages: dict[str, Storage] = {}
        self._steps = 0
        self._reset()

    def _reset(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self, file: IO[bytes]) -> Any:
        """Return what the next pickle of a file describes.

        Raises:
            Exception: of any kind, if it is damaged, or holds a step that `torch.save` does not write.
        """
        self._reset()
        for opcode, argument, _ in pickletools.genops(file):
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise ValueError(f"it takes more than {_MOST_STEPS:,} steps")
            if opcode.name == "STOP":
                break
            _STEPS[opcode.name](self, argument)
        return self._stack.pop()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _put(self, index: Any) -> None:
        self._memo[len(self._memo) if index is None else int(index)] = self._stack[-1]

    def _get(self, index: Any) -> None:
        self._stack.append(self._memo[int(index)])

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _last(self, count: int) -> list[Any]:
        return [self._stack.pop() for _ in range(count)][::-1]

    def _append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is list:
            self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        """Set the items of a dictionary; those whose key cannot name a tensor are left out."""
        pairs = zip(items[::2], items[1::2], strict=True)
        if type(self._stack[-1]) is dict:
            self._stack[-1].update((key, value) for key, value in pairs if type(key) is str)

    def _store(self) -> None:
        storage = _storage(self._stack.pop())
        if type(storage) is Storage:
            self.storages[storage.key] = storage
        self._stack.append(storage)

    def _call(self) -> None:
        function, arguments = self._last(2)
        made = _made(function, arguments)
        if type(made) is StoredTensor and self._stack and type(self._stack[-1]) is str:
            self.seen[self._stack[-1]] = made
        self._stack.append(made)


_Step = Callable[[PickleReader, Any], None]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda _reader, _argument: None),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "INT"), PickleReader._push),
    **dict.fromkeys(("LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"), PickleReader._push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"), PickleReader._push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING", "STRING"), PickleReader._push),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), PickleReader._push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"), PickleReader._put),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "GET"), PickleReader._get),
    "NONE": lambda reader, _: reader._push(None),
    "NEWTRUE": lambda reader, _: reader._push(True),
    "NEWFALSE": lambda reader, _: reader._push(False),
    "GLOBAL": lambda reader, name: reader._push(_Global(name)),
    "STACK_GLOBAL": lambda reader, _: reader._push(_Global(" ".join(reader._last(2)))),  # from protocol 4 on
    "MARK": lambda reader, _: reader._mark(),
    "EMPTY_TUPLE": lambda reader, _: reader._push(()),
    "TUPLE1": lambda reader, _: reader._push(tuple(reader._last(1))),
    "TUPLE2": lambda reader, _: reader._push(tuple(reader._last(2))),
    "TUPLE3": lambda reader, _: reader._push(tuple(reader._last(3))),
    "TUPLE": lambda reader, _: reader._push(tuple(reader._since_mark())),
    "EMPTY_LIST": lambda reader, _: reader._push([]),
    "EMPTY_SET": lambda reader, _: reader._push(FOREIGN),
    "APPEND": lambda reader, _: reader._append(reader._last(1)),
    "APPENDS": lambda reader, _: reader._append(reader._since_mark()),
    "ADDITEMS": lambda reader, _: reader._append(reader._since_mark()),
    "EMPTY_DICT": lambda reader, _: reader._push({}),
    "SETITEM": lambda reader, _: reader._set(reader._last(2)),
    "SETITEMS": lambda reader, _: reader._set(reader._since_mark()),
    "BINPERSID": lambda reader, _: reader._store(),
    "REDUCE": lambda reader, _: reader._call(),
    "NEWOBJ": lambda reader, _: reader._push(FOREIGN if reader._last(2) else None),
    "BUILD": lambda reader, _: reader._last(1).clear(),  # attributes, such as the versions of a state_dict
}
"""What each step of a pickle does to the stack; a step that is not here is not one of `torch.save`."""


def _storage(identity: Any) -> Any:
    """Return the storage of a persistent id: ``("storage", class, key, device, elements)``."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
        return FOREIGN
    kind, cls, key, _, elements = identity[:5]
    if kind != "storage" or type(cls) is not _Global or type(key) is not str:
        return FOREIGN
    dtype = _STORAGES[cls.name.rsplit(" ", 1)[-1]]
    return Storage(key, dtype, _whole(elements))


def _made(function: Any, arguments: Any) -> Any:
    """Return what a call makes, without calling anything."""
    if type(function) is not _Global or type(arguments) is not tuple or len(arguments) > _MOST_ARGUMENTS:
        return FOREIGN
    if function.name == "collections OrderedDict" and not arguments:
        return {}
    if function.name in _REBUILD:
        return _tensor(*arguments)
    if function.name in _PARAMETERS:
        return arguments[0]
    if function.name == "torch._tensor _rebuild_from_type_v2":  # a tensor with attributes
        return _made(arguments[0], arguments[2])
    return FOREIGN


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Any:
    """Return a tensor; raise a ValueError if it is not inside its storage."""
    if type(storage) is not Storage:
        return FOREIGN
    dtype = storage.dtype
    if len(rest) > 2 and type(rest[2]) is _Global:  # only the third version of the function names it
        dtype = rest[2].name.removeprefix("torch ")
    info = TensorInfo(checked_shape(shape), dtype)
    strides = tuple(map(_whole, stride))
    last = _whole(offset) + sum((size - 1) * step for size, step in zip(info.shape, strides, strict=True))
    if math.prod(info.shape) and (last + 1) * ITEM_BYTES[dtype] > storage.bytes:
        raise ValueError(f"a tensor of shape {info.shape} is larger than its storage")
    return StoredTensor(info, storage, offset, strides)


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 63:
        raise ValueError("a size that is not a whole number from 0")
    return number
