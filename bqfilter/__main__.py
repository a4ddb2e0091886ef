"""`python -m bqfilter` is `bqfilterd`."""

from bqfilter.cli import main

if __name__ == "__main__":
    main()
