"""The whole service on one machine: the embedded emulator, made durable, with the template deployed to it."""
