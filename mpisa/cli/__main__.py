"""`python -m mpisa.cli` is the same as `mpisa`."""

from mpisa.cli.main import main

if __name__ == "__main__":
    main()
