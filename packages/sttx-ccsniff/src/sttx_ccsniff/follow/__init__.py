"""Following: the history of files and folders in time order, then what is written to them."""
