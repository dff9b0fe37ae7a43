"""`python -m vlm_ood`: the command line."""

from vlm_ood.cli import main

if __name__ == "__main__":
    main()
