"""What every Python that tests start does first."""

import os
import sys

if "WARM_PROGRAMS" in os.environ and any(a.endswith("/default_worker.py") for a in sys.orig_argv):
    from warm_programs import hand_over

    hand_over()
