"""What a run leaves behind: named variables, measurements of states, the stored file and its provenance."""
