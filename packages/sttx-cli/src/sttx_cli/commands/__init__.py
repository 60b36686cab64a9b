"""One module per command of `sttx`, each imported when it is run. Its name is `command`."""
