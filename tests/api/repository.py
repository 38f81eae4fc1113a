"""Git repositories for tests."""
import subprocess


def git(where, *arguments):
    """What it prints."""
    return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(where), *arguments], check=True,
                          capture_output=True, text=True).stdout


def repository(path, branch, text, numbers):
    """A commit for each number, of a file with this text; the branch `side` ends one before the last."""
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", branch)
    for n in numbers:
        (path / "file").write_text(text % n)
        git(path, "add", "file")
        git(path, "commit", "-qm", "commit %d" % n)
    git(path, "branch", "side", "HEAD~1")
