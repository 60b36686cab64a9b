"""Forms in which a matrix of a model is stored: low-rank, ghost, sparse, quantized. One mechanism for all."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.forms.encoding import encode, relative_error, singular_values
    from sttx_train.forms.form import Form, StoredTensor
    from sttx_train.forms.matrix import StoredEmbedding, StoredMatrix, install

__all__ = [
    "Form",
    "StoredEmbedding",
    "StoredMatrix",
    "StoredTensor",
    "encode",
    "install",
    "relative_error",
    "singular_values",
]

__getattr__ = lazy_names(
    __name__,
    {
        "encoding": ["encode", "relative_error", "singular_values"],
        "form": ["Form", "StoredTensor"],
        "matrix": ["StoredEmbedding", "StoredMatrix", "install"],
    },
)
