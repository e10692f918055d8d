# A function that finds half changed packages. Windows has none that it shows: a package manager that knows of some has
# its own script of this name.

function Find-FpUnfinished { # who changes packages, or which are half changed; '' if there is nothing
    ''
}
