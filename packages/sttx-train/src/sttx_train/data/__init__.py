"""Training data: any path becomes documents of token ids, and text becomes a vocabulary."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.data.arrays import ArrayDocuments
    from sttx_train.data.bpe import SMALLEST, bytes_per_token, find_texts, learn_tokens, read_pieces
    from sttx_train.data.description import describe
    from sttx_train.data.detect import ENCODED, DataFormat, detect_format, holds_numbers
    from sttx_train.data.documents import Documents
    from sttx_train.data.encoding import ids_dtype, vocabulary_identity
    from sttx_train.data.mmididx import PairDocuments, check_pair, pair_paths, write_pair
    from sttx_train.data.reader import Data, open_data

__all__ = [
    "ArrayDocuments",
    "Data",
    "DataFormat",
    "Documents",
    "ENCODED",
    "PairDocuments",
    "SMALLEST",
    "bytes_per_token",
    "check_pair",
    "describe",
    "detect_format",
    "find_texts",
    "holds_numbers",
    "ids_dtype",
    "learn_tokens",
    "open_data",
    "pair_paths",
    "read_pieces",
    "vocabulary_identity",
    "write_pair",
]

__getattr__ = lazy_names(
    __name__,
    {
        "arrays": ["ArrayDocuments"],
        "bpe": ["SMALLEST", "bytes_per_token", "find_texts", "learn_tokens", "read_pieces"],
        "description": ["describe"],
        "detect": ["DataFormat", "ENCODED", "detect_format", "holds_numbers"],
        "documents": ["Documents"],
        "encoding": ["ids_dtype", "vocabulary_identity"],
        "mmididx": ["PairDocuments", "check_pair", "pair_paths", "write_pair"],
        "reader": ["Data", "open_data"],
    },
)
