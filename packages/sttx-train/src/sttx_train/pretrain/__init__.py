"""Pretraining: all weights of a small model from text, to a folder that loads."""

from sttx_train.pretrain.corpus import Corpus, load_corpus
from sttx_train.pretrain.trainer import PretrainConfig, Pretrainer, PretrainStep, held_out_bits

__all__ = ["Corpus", "PretrainConfig", "PretrainStep", "Pretrainer", "held_out_bits", "load_corpus"]
