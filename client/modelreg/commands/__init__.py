"""The commands, a module for each thing a person wants to do; cli.py puts them together."""
