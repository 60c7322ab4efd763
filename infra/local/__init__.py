"""The whole service on one machine: the embedded emulator, made durable, with the template deployed to it.

`runner.py` is `make run`. It starts `emulator.py` as a process of its own and shares with it only what
stands here.
"""

# The name of the stack, and of the API in it.
STACK = "model-registry"
# Saves the state of every service of the emulator without stopping it.
CHECKPOINT_PATH = "/_registry/checkpoint"
# Begins the last line of the log of an emulator that ended for a reason the operator should read.
REFUSAL = "REFUSED: "
# What the runner writes to the emulator's standard input around a deployment; the second also where none is needed.
DEPLOYING, DEPLOYED = b"{", b"}"
