"""The project's commands as processes of this interpreter."""

import sys

FOVEA = (sys.executable, "-c", "from training.cli import main; main()")
