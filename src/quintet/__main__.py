"""python -m quintet"""

import sys

from quintet.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
