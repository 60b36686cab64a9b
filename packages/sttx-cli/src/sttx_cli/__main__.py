"""`python -m sttx_cli` is `sttx`."""

from sttx_cli.app import main

if __name__ == "__main__":
    main()
