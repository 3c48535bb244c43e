"""What loading a checkpoint's files can raise."""

from __future__ import annotations

import pickle

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

LOADING_ERRORS = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, EOFError, SafetensorError,
    pickle.UnpicklingError, StrictDataclassError,
)  # fmt: skip
