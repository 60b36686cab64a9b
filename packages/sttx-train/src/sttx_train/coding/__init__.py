"""Lossless compression: archives of files, coded by what networks and experts expect next.

`compress` writes an archive, `Archive` reads one, and `extract` restores its files. Anything is compressed;
sessions of coding agents best.
"""

from sttx_train.coding.archive import Archive, Damage, Sink
from sttx_train.coding.container import MAGIC, Entry
from sttx_train.coding.extract import Nowhere, ToStream, extract
from sttx_train.coding.members import members_of
from sttx_train.coding.method import Level, Method, Profile, method_of
from sttx_train.coding.target import CompressConfig, Member, check_target
from sttx_train.coding.vector import computes_as_expected
from sttx_train.coding.writing import Compressed, compress

__all__ = [
    "Archive",
    "CompressConfig",
    "Compressed",
    "Damage",
    "Entry",
    "Level",
    "MAGIC",
    "Member",
    "Method",
    "Nowhere",
    "Profile",
    "Sink",
    "ToStream",
    "check_target",
    "compress",
    "computes_as_expected",
    "extract",
    "members_of",
    "method_of",
]
