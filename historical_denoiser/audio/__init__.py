"""Signal code, audio files and pictures of sound."""
