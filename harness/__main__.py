"""``python -m harness``."""

import sys

# Without -P the current folder comes first on the import path, and whatever lies there would be
# imported below: as root, if we are root. The package itself has been found by now.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]

from harness.cli.main import main

if __name__ == "__main__":
    main()
