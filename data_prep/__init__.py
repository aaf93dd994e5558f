"""Raw downloads and users' own folders in, TFDS datasets on disk out: `python -m data_prep`."""
