"""The parts of the browser page (`app.py`); only `layout` and `guard` need Gradio."""
