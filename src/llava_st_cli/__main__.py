"""`python -m llava_st_cli`, which launchers of several processes need."""

from .process import run

if __name__ == "__main__":
    run()
