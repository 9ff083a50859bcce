"""`python -m rhodb`."""

from rhodb.cli.main import main

if __name__ == "__main__":
    main()
