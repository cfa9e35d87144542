"""The parts of the browser page (`app.py`); only `layout` needs Gradio."""
