"""`python -m lmjudge`."""

import sys

from lmjudge.cli import main

sys.exit(main())
