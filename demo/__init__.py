"""The demos: demo.py segments one video from the command line, app.py serves a page."""
