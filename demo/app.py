"""Serve a page on this machine: make masks of a video's objects, track them, correct them, download them.

python3 demo/app.py [--video FILE_OR_FOLDER] [--model shipped|FILE] [--port 7860]
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the page starts from any folder

import libs.core.threads  # noqa: F401  before torch

# isort: split
from demo.web.library import Library
from demo.web.notices import install
from demo.web.sessions import Sessions
from libs.app.script import SignalHandler, run_with_error_messages
from libs.app.segmenter import SMALLEST_INPUT, Segmenter
from libs.core.errors import InputError

HOST = "127.0.0.1"
LARGEST_UPLOAD = "4gb"


def main() -> None:
    """Load the model, serve the page until a signal comes, and remove all temporary files."""
    args = parse_arguments()
    with SignalHandler(hangup=True):
        library = Library(args.video)
        check_port(args.port)
        if args.max_size < SMALLEST_INPUT:
            raise InputError(f"--max_size {args.max_size}: expected at least {SMALLEST_INPUT} pixels")
        folder = Path(tempfile.mkdtemp(prefix="stm-cycle-app-"))
        try:
            import_gradio(folder)
            segmenter = Segmenter.load(args.model, max_size=args.max_size)
            serve(Sessions(segmenter, folder), library, args)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--video", type=Path, metavar="FILE_OR_FOLDER", help="videos that can be chosen on the page")
    add("--model", default="shipped", metavar="NAME_OR_FILE", help="weights, as the key 'initial' takes them")
    add("--port", type=int, default=7860, help="port on this machine")
    add("--max_size", type=int, default=427, help="longer side of the network's input in pixels")
    add("--browser", action="store_true", help="open the page in a browser")
    return parser.parse_args()


def check_port(port: int) -> None:
    """Raises: InputError if nothing can be served there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--port {port}: cannot be used ({error}); give another one, such as {port % 65535 + 1}"
            ) from error


def import_gradio(folder: Path) -> None:
    """Import gradio so that it reports nothing to others, and keeps its files in `folder`.

    Raises: InputError if it is not installed.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(folder), HF_HUB_OFFLINE="1")
    try:
        import gradio  # noqa: F401  it reads the variables now
    except ModuleNotFoundError as error:
        raise InputError(
            f"the page needs the package {error.name}; pip install -r requirements-web.txt, or `make app`"
        ) from error


def serve(sessions: Sessions, library: Library, args: argparse.Namespace) -> None:
    """Serve the page until a signal comes."""
    import gradio

    from demo.web.page import CSS, FONTS, build_page

    install()
    page = build_page(sessions, library)
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=args.port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=LARGEST_UPLOAD,
            theme=gradio.themes.Default(**FONTS),
            css=CSS,
        )
        print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
        if args.browser:
            webbrowser.open(address)
        threading.Event().wait()
    finally:
        sessions.close_all()
        page.close(verbose=False)


if __name__ == "__main__":
    run_with_error_messages(main)
