"""``python -m simcore`` is the command line, so that torchrun can start it."""

import sys

from simcore.cli import main

sys.exit(main())
