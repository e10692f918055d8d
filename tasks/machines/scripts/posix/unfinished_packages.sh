#!/bin/sh
# Finds half changed packages in the package database. A package manager whose database knows them has its own script
# of this name.

# fp_unfinished: sets fp_obstacle to packages and fp_who to the packages and their states, if there are any
fp_unfinished() { :; }
