"""The page of demo/app.py: make masks, track them, correct them, download them.

Each file but `page` and `handlers` works without gradio.
"""
