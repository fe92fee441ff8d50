"""`python -m deployer`."""

from deployer.cli.main import main

if __name__ == "__main__":
    main()
