"""Imported last by the process that stages are forked from: it finds what a stage leaves running, and ends at once."""

import atexit
import os

from factuality_harness.training.sweep.process import adopt_orphans

adopt_orphans()
atexit.register(os._exit, 0)  # when its worker has ended: taking all that was imported apart can take seconds
