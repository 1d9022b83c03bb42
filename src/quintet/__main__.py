"""python -m quintet, and the program quintet"""

import signal
import sys


def program() -> int:
    """The program. While it is imported, Ctrl-C ends it as the system does, without a traceback: nothing has begun."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from quintet.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(program())
