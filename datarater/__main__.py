"""The command `datarater`, also as `python -m datarater`."""

import os
import signal
import sys


def main() -> int:
    "Import and run the command; Ctrl-C before it is imported ends the process without a word."
    try:
        os.getcwd()
    except FileNotFoundError:  # where PyTorch, too, can't be imported
        gone = "the current folder does not exist any more: go to one that does"
        print(f"datarater: error: {gone}", file=sys.stderr)
        return 2
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from datarater.cli import main as command  # which takes seconds

    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return command()


if __name__ == "__main__":
    sys.exit(main())
