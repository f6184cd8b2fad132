"""``python -m tests.lab build`` makes the bases of hosts; ``clear`` removes what killed runs have left."""

import sys

from tests.lab import bases, leftovers, recipe

match sys.argv[1:]:
    case ["build"]:
        for each in recipe.SUITES:
            bases.base(each)
    case ["clear"]:
        print(*(leftovers.clear_leftovers() or ["nothing is left"]), sep="\n")
    case _:
        sys.exit(__doc__)
