"""`python -m service`: the server with the settings of the environment."""

import sys

from service.settings import SettingsError, read_settings
from service.start import serve

if __name__ == "__main__":
    try:
        serve(read_settings())
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
