"""`python -m infra.local`, which is what `make run` runs; its options are environment variables."""

import os
import sys

from infra.local.runner import run

sys.exit(run(os.environ))
