"""Build the documentation: hand-written pages, generated pages, and a check of every link.

    python docs/build.py [--out FOLDER] [--serve]

Needs the extra ``docs``. Writes the site to ``build/site``; open its ``index.html``. Exits with code 1 if a
link, an anchor or an image is broken. The search box only works when the site is served (``--serve``).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import generate
import yaml

DOCS = Path(__file__).resolve().parent
SHOWN = (".css", ".md", ".png", ".svg", ".sh", ".yml")
PART = re.compile(r"<!-- generated: (\w+) -->")


def assemble(folder: Path) -> Path:
    """Write all pages and the configuration to ``folder``; returns the path of the configuration."""
    pages = folder / "docs"
    for source in sorted(DOCS.iterdir()):
        if source.suffix in SHOWN:
            write(pages / source.name, source)
    made = generate.parts()
    for page in pages.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(PART.sub(lambda found: made[found[1]](), text), encoding="utf-8")
    for name, text in generate.pages().items():
        write(pages / name, text)
    for name, image in generate.IMAGES.items():
        opened = image.load()
        opened.resize((opened.width * 2, opened.height * 2)).save(pages / name)  # the bundled images are small
    config = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    config["nav"] = list(navigation(config["nav"], pages))
    write(folder / "mkdocs.yml", yaml.safe_dump(config, sort_keys=False))
    return folder / "mkdocs.yml"


def write(path: Path, content: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_text(content, encoding="utf-8")


def navigation(entries: list[Any], pages: Path) -> Iterator[Any]:
    """The navigation, with the benchmark pages below the page that lists them."""
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            yield {title: list(navigation(target, pages))}
        elif target == "benchmarks.md":
            below = [
                {path.stem.replace("_plus", "+"): f"benchmarks/{path.name}"}
                for path in sorted((pages / "benchmarks").glob("*.md"))
            ]
            yield {title: [target, *below]}
        else:
            yield entry


def unlisted(config: Path) -> list[str]:
    """Pages that are missing from the navigation."""
    text = config.read_text(encoding="utf-8")
    pages = config.parent / "docs"
    names = (str(page.relative_to(pages)) for page in sorted(pages.rglob("*.md")))
    return [
        f"{name}: missing from the navigation"
        for name in names
        if not re.search(rf"[ :-] {re.escape(name)}$", text, re.M)
    ]


# --------------------------------------------------------------------------------------------------------------- links


class Page(HTMLParser):
    """The anchors, links and images of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            if value and name in ("href", "src"):
                self.links.append(value)


def broken(site: Path) -> list[str]:
    """Broken links of the built site, as messages. Links to other hosts are not checked."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute, since a server shows it at any address
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                found.append(f"{path.relative_to(site)}: {link}: no such file")
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                found.append(f"{path.relative_to(site)}: {link}: no such heading")
    return found


# ---------------------------------------------------------------------------------------------------------------- main


def build(folder: Path) -> list[str]:
    """Build the site in ``folder``; returns its errors."""
    shutil.rmtree(folder / "docs", ignore_errors=True)
    shutil.rmtree(folder / "site", ignore_errors=True)
    config = assemble(folder)
    done = subprocess.run(
        [*zensical(), "build", "--strict", "--clean", "-f", str(config)], text=True, capture_output=True, check=False
    )
    if done.returncode:
        output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).partition("Traceback (most recent")
        return [f"zensical: {output[0]}"]
    return unlisted(config) + broken(folder / "site")


def zensical() -> list[str]:
    return [str(Path(sys.executable).with_name("zensical"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS.parent / "build", help="folder to build in")
    parser.add_argument("--serve", action="store_true", help="serve the site on this machine")
    options = parser.parse_args()
    errors = build(options.out.resolve())
    if errors:
        sys.exit("\n".join(errors))
    site = options.out / "site"
    print(f"{site / 'index.html'}: {len(list(site.rglob('*.html')))} pages, no broken links")
    if options.serve:
        subprocess.run([*zensical(), "serve", "-f", str(options.out.resolve() / "mkdocs.yml")], check=False)


if __name__ == "__main__":
    main()
