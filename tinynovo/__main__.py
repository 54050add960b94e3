"""``python -m tinynovo`` is ``tinynovo``; knows nothing else."""

import sys

from tinynovo.cli import main

if __name__ == "__main__":
    sys.exit(main())
