"""How the commands of this package end: one line for each warning and error, exit code 2 for wrong input."""

import sys
import warnings
from collections.abc import Callable

from libs.core.errors import InputError


def run_command(run: Callable[[], None]) -> None:
    """Call `run`. Exit codes: 0; 2 after an error in the input, in one line; 130 after Ctrl-C."""
    warnings.showwarning = lambda message, *_: _print_line("warning", str(message))
    try:
        run()
    except InputError as error:
        _print_line("error", str(error))
        sys.exit(2)
    except OSError as error:
        _print_line("error", f"{error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _print_line(kind: str, text: str) -> None:
    print(f"{kind}: {' '.join(text.splitlines())}", file=sys.stderr, flush=True)
