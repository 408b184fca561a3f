"""A browser against a node: the pages render, odd names stay text, and nothing of an archive runs as a
script."""

from __future__ import annotations

from pathlib import Path

from tests.node.wire_support import program, run, served

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


async def rendered(url: str, profile: Path) -> str:
    """The page as the browser has it after its scripts would have run."""
    done = await run(program("chromium", "chromium"), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "replace")


async def test_a_listing_renders(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(b"text")
    (tree / "<img src=x onerror=document.title='owned'>").write_bytes(b"")
    (tree / "page.html").write_bytes(
        b"<title>quiet</title><body><script>document.title = 'owned'</script>shown"
    )
    async with served(tmp_path, tree) as node:
        page = await rendered(f"{node.url}/", tmp_path / "profile-1")
        assert 'href="./sub/"' in page
        assert 'href="./file"' in page
        assert "&lt;img src=x" in page
        assert "<img" not in page
        assert "<title>owned" not in page
        page = await rendered(f"{node.url}/page.html", tmp_path / "profile-2")
        assert "shown" in page
        assert "<title>quiet</title>" in page
