"""Building a corpus of clean audio: downloads, archives, judging, converting, the manifest."""
