"""What forms there are, how a config writes them, and the tensors of each. Loads no torch.

A form is a structure, and the numbers that its parts are stored in. Its text is what a ``config.json`` holds:

    low-rank:64            two factors [O, 64] and [64, I]
    ghost:128:16           128 full rows; the other rows are made of them by a projection of rank 16
    sparse:9000            the 9000 numbers that are not 0, and a bit mask of their places
    2:4                    two numbers of every four in a row, and their places
    int8, int8:64          codes of 8 bits, with a scale for each row, or for each 64 numbers of a row
    low-rank:64+int4:32    the factors in codes of 4 bits
    int8+training          float numbers that are rounded to 8 bits whenever they are used

Legend: O outputs (rows), I inputs (columns).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sttx_core.errors import UsageError
from sttx_core.foreign_files import shown

Structure = Literal["dense", "low-rank", "ghost", "sparse", "2:4"]
Kind = Literal["float", "int8", "uint8", "int32"]

_NUMBER = "[1-9][0-9]{0,9}"
_STRUCTURE = re.compile(f"(?:(low-rank|sparse):({_NUMBER})|(ghost):({_NUMBER}):({_NUMBER})|(2:4))")
_NUMBERS = re.compile(f"int([48])(?::({_NUMBER}))?")
_TRAINING = "training"
_LONGEST = 100


class StoredTensor(NamedTuple):
    """The shape of a stored tensor, and what it holds; ``float`` is of any floating-point type."""

    shape: tuple[int, ...]
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Form:
    """How one matrix ``[O, I]`` is stored.

    Attributes:
        structure: what the matrix is made of.
        rank: inner width of ``low-rank``, or of the projection of ``ghost``.
        core: full rows of ``ghost``.
        kept: numbers of ``sparse`` that are stored.
        bits: of a number: 8 or 4; 0 for floating-point numbers.
        group: numbers of a row that share a scale; 0: all.
        training: the parts are floating-point numbers that are rounded when they are used, so that they can
            be trained for their quantization.

    >>> form = Form.parse("low-rank:64+int4:32")
    >>> form.rank, form.bits, str(form), form.numbers((256, 512))
    (64, 4, 'low-rank:64+int4:32', 49152)
    """

    structure: Structure = "dense"
    rank: int = 0
    core: int = 0
    kept: int = 0
    bits: Literal[0, 4, 8] = 0
    group: int = 0
    training: bool = False

    @classmethod
    def parse(cls, text: object) -> Form:
        """Read the text of a form.

        Raises:
            UsageError: the text is not one of a form.
        """
        if not isinstance(text, str) or not text or len(text) > _LONGEST:
            raise UsageError(f"{shown(text)} is not a form of a matrix, such as 'low-rank:64+int8'")
        words, fields = text.split("+"), {}
        if match := _STRUCTURE.fullmatch(words[0]):
            fields |= _structure(match)
            words.pop(0)
        if words and (match := _NUMBERS.fullmatch(words[0])):
            fields |= {"bits": int(match[1]), "group": int(match[2] or 0)}
            words.pop(0)
            if words == [_TRAINING]:
                fields["training"] = True
                words.pop()
        if words or not fields:
            raise UsageError(f"{shown(text)} is not a form of a matrix, such as 'low-rank:64+int8'")
        return cls(**fields)

    def __str__(self) -> str:
        match self.structure:
            case "dense":
                words = []
            case "low-rank":
                words = [f"low-rank:{self.rank}"]
            case "ghost":
                words = [f"ghost:{self.core}:{self.rank}"]
            case "sparse":
                words = [f"sparse:{self.kept}"]
            case "2:4":
                words = ["2:4"]
        if self.bits:
            words.append(f"int{self.bits}" + (f":{self.group}" if self.group else ""))
        return "+".join(words + [_TRAINING] * self.training)

    def parts(self, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Return the shapes of the parts that hold the numbers of a matrix, by name."""
        rows, columns = shape
        match self.structure:
            case "dense":
                return {"full": shape}
            case "low-rank":
                return {"left": (rows, self.rank), "right": (self.rank, columns)}
            case "ghost":
                core = {"core": (self.core, columns)}
                return core | {"down": (self.rank, self.core), "up": (rows - self.core, self.rank)}
            case "sparse":
                return {"values": (1, self.kept)}
            case "2:4":
                return {"values": (rows, columns // 2)}

    def tensors(self, shape: tuple[int, int]) -> dict[str, StoredTensor]:
        """Return the tensors of a matrix, by the end of their names.

        Raises:
            UsageError: no matrix of this shape has the form.
        """
        self._check(shape)
        rows, columns = shape
        stored: dict[str, StoredTensor] = {}
        for name, part in self.parts(shape).items():
            stored |= self._numbers(name, part)
        match self.structure:
            case "ghost":
                stored["order"] = StoredTensor((rows,), "int32")
            case "sparse":
                stored["mask"] = StoredTensor((rows, -(-columns // 8)), "uint8")
            case "2:4":
                stored["places"] = StoredTensor((rows, columns // 8), "uint8")
            case "dense" | "low-rank":
                pass
        return stored

    def numbers(self, shape: tuple[int, int]) -> int:
        """Return how many numbers of a matrix are stored, without scales, masks and places."""
        return sum(rows * columns for rows, columns in self.parts(shape).values())

    def products(self, shape: tuple[int, int]) -> int:
        """Return the multiplications of a vector with a matrix, as it runs here: sparse ones are expanded."""
        if self.structure in ("sparse", "2:4"):
            return shape[0] * shape[1]
        return self.numbers(shape)

    def nbytes(self, shape: tuple[int, int], float_bytes: int) -> int:
        """Return the bytes of a matrix on disk, with floating-point numbers of so many bytes."""
        sizes = {"float": float_bytes, "int8": 1, "uint8": 1, "int32": 4}
        total = 0
        for stored in self.tensors(shape).values():
            count = sizes[stored.kind]
            for size in stored.shape:
                count *= size
            total += count
        return total

    def _numbers(self, name: str, shape: tuple[int, int]) -> dict[str, StoredTensor]:
        """Return the tensors of one part."""
        if not self.bits or self.training:
            return {name: StoredTensor(shape, "float")}
        rows, columns = shape
        codes = (
            StoredTensor(shape, "int8") if self.bits == 8 else StoredTensor((rows, -(-columns // 2)), "uint8")
        )
        groups = -(-columns // self.group) if self.group else 1
        return {f"{name}_codes": codes, f"{name}_scales": StoredTensor((rows, groups), "float")}

    def _check(self, shape: tuple[int, int]) -> None:
        rows, columns = shape
        fits = {
            "dense": True,
            "low-rank": self.rank <= min(shape),
            "ghost": self.core < rows and self.rank <= self.core,
            "sparse": self.kept <= rows * columns,
            "2:4": columns % 8 == 0,
        }
        if not fits[self.structure]:
            raise UsageError(f"no matrix of {rows} x {columns} has the form {str(self)!r}")


def _structure(match: re.Match[str]) -> dict[str, str | int]:
    if match[1] == "low-rank":
        return {"structure": "low-rank", "rank": int(match[2])}
    if match[1] == "sparse":
        return {"structure": "sparse", "kept": int(match[2])}
    if match[3]:
        return {"structure": "ghost", "core": int(match[4]), "rank": int(match[5])}
    return {"structure": "2:4"}


def module_of(name: str) -> str:
    """Return the name of the module that holds a matrix, by the name of the dense parameter.

    >>> module_of("blocks.0.att.key.weight"), module_of("blocks.0.att.w1")
    ('blocks.0.att.key', 'blocks.0.att.w1')
    """
    return name.removesuffix(".weight")
