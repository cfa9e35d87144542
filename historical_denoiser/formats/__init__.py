"""Recordings, films, their tags and their damage; pictures of sound."""
