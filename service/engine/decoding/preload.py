"""What the fork server imports, so that its children start in milliseconds and share the memory of these modules."""

import atexit
import gc
import os
import signal

from PIL import Image

from service.engine.decoding import child
from service.memory import give_memory_back

__all__ = ["child"]

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole group; this process ends with the server
give_memory_back()
Image.init()  # imports the readers of all formats
atexit.register(os._exit, 0)  # there is nothing to clean up, for which PyTorch takes seconds
gc.freeze()  # a collection would write to every object, and so copy the shared memory
