"""Where scans come from: files, folders and bags."""
