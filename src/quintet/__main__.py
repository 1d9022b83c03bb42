"""python -m quintet"""

import sys

from quintet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
