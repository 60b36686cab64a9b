"""Data to pretrain on: any path becomes documents of token ids."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.data.arrays import ArrayDocuments
    from sttx_train.data.documents import Documents
    from sttx_train.data.open_data import Data, open_data

__all__ = [
    "ArrayDocuments",
    "Data",
    "Documents",
    "open_data",
]

__getattr__ = lazy_names(
    __name__,
    {
        "arrays": ["ArrayDocuments"],
        "documents": ["Documents"],
        "open_data": ["Data", "open_data"],
    },
)
