"""What every program and room needs: mistakes, files, the command line, backends."""
