"""`python -m swiftdet`: the command line without the script."""

import sys

from swiftdet.cli import main

sys.exit(main())
