"""What a run has come to, as pictures and one page: `python launch.py report`."""
