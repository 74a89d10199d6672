"""MCAP files: checked before they are read, written so that they survive a crash, saved from damage."""
