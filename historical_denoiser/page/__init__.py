"""What the page in the browser (`app.py`) is made of, apart from Gradio."""
