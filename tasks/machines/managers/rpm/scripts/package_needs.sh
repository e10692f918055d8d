#!/bin/sh
# Which packages somebody has chosen, and which nothing needs. The tools that say it have a script of this name.

chosen() { return 1; }
needless() { return 1; }
