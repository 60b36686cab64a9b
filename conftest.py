"""What holds for all tests: one thread for each process that runs them.

Their models are tiny, so a second thread only makes both wait for each other, and several test processes
together stand still.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch; what the tests start inherits it
