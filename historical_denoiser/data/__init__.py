"""Training data: files and their splits, segments and noise, ageing, cached pairs, batches."""
