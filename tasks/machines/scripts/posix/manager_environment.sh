#!/bin/sh
# The environment of commands that may call the package manager. It is empty here: a package manager that needs
# variables, for example one that stops its questions, has its own script of this name.
