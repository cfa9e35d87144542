"""What training draws from: files and their splits, stems kept on disk, batches."""
