"""``python -m tinynovo`` is ``tinynovo``; knows nothing else."""

from tinynovo.cli import run

if __name__ == "__main__":
    run()
