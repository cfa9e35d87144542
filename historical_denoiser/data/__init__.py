"""What training draws from: files and their splits, pairs kept on disk, ageing, batches."""
