"""`python -m lcbook`."""

import sys

from lcbook.cli import main

sys.exit(main())
