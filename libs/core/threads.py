"""Let waiting threads of PyTorch sleep. Import this before torch, which reads the variable as it loads.

By default, a thread of libgomp that waits for another one keeps its core busy for some milliseconds. If two
processes have more threads than there are cores, each waits for threads that cannot run meanwhile.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # what the user has set stays
