"""Runs a server that learns, for tests that kill it: MODEL STORE. Writes its address to standard output."""

import sys

from sttx_train import load_model
from sttx_train.serve import Catalog, ServeConfig, Server

if __name__ == "__main__":
    with Server(ServeConfig(port=0, learn=True, state_store=sys.argv[2])) as server:
        server.start(Catalog.load(load_model(sys.argv[1])))
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        server.wait()
