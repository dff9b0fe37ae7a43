"""`python -m service`: the server with the settings of the environment."""

from service.run import run
from service.settings import Settings

if __name__ == "__main__":
    run(Settings())
