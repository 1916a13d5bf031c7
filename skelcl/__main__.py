"""``python -m skelcl`` is ``skelcl``."""

from skelcl.cli import main

if __name__ == "__main__":
    main()
