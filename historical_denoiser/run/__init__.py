"""Restores recordings, films and folders of them: what the command does."""
