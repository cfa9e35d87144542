"""Loading Keras and the library that it computes with."""

from __future__ import annotations

import importlib
import os
import sys


def load_backend() -> None:
    """Loads Keras and its backend, TensorFlow unless `KERAS_BACKEND` says otherwise.

    While it loads, TensorFlow writes to stderr before any logging is set up; that is kept quiet.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        importlib.import_module("keras")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)
