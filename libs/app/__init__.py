"""Start-up of the scripts: read the config, build the parts, report errors. The Python interface."""
