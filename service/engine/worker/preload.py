"""The last module that the fork server of the workers imports; it has one thread of Python, and no CUDA context."""

import atexit
import gc
import os
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a whole group; this process ends with the server
atexit.register(os._exit, 0)  # there is nothing to clean up, for which PyTorch takes seconds
gc.freeze()  # a collection would write to every object, and so copy the shared memory
