"""Signal code: arrays in, arrays out."""
