"""Build the site, in two languages: course with outputs and figures, labs, how-to, reference, errata, results.

    python docs/make_site.py                    # into build/site; runs the quick tutorials once, for their outputs
    python docs/make_site.py --without-outputs  # runs nothing: half a minute
    python -m http.server --directory build/site

The pages are generated from what is in the repository (see docs/generator/pages.py), then mkdocs makes static files of
them, which need no other host; without a server all but the search works. Any link that leads nowhere ends the build.
Needs the extras ``docs``, ``notebooks`` and ``tutorials``.
"""
import logging
import shutil
import sys
from pathlib import Path

import click
import jieba
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs" / "generator"), str(ROOT / "tutorials")]

import weave  # noqa: E402
from pages import navigation, section_titles, write_pages  # noqa: E402


def build_site(output, outputs):
    """Make the site in the folder ``output``; ``outputs`` are {tutorial: outputs of its code cells}."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    jieba.setLogLevel(logging.WARNING)
    pages = output.with_name(f"{output.name}-pages")
    shutil.rmtree(pages, ignore_errors=True)
    write_pages(pages, outputs)
    config = load_config(str(ROOT / "docs" / "generator" / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(output),
                         nav=navigation(pages), strict=True)
    config.plugins["i18n"].config.languages[1].nav_translations = section_titles()
    config.plugins.on_startup(command="build", dirty=False)
    build(config)


@click.command(help=__doc__.split("\n")[0])
@click.option("--without-outputs", is_flag=True, help="Do not run the tutorials.")
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "build" / "site", show_default=True)
def main(without_outputs, output):
    build_site(output.resolve(), {} if without_outputs else weave.run_tutorials())
    click.echo(f"Made in {output}: open index.html, or zh/index.html")


if __name__ == "__main__":
    main()
