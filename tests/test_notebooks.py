"""Notebooks with outputs: run in a Jupyter kernel, once for both languages, with the figures that cells wrote."""
from pathlib import Path

import nbformat
import outputs
import pytest
import translations
import weave

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"
PROSE = "# %% [markdown]\n# # A title\n\n"
CODE = f"""# %%
import sys
from pathlib import Path
sys.path.insert(0, {str(TUTORIALS)!r})
import figures
figures.show_in_notebook(Path("."))
figures.show_in_notebook(Path("."), "[ab]*.png")  # of a cell that is run again
print("in a notebook")

# %% [markdown]
# ## Figures

# %%
import matplotlib.figure
for name in ("b.png", "of_another_tutorial.png", "a.png"):
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    figure.savefig(name)
print("two figures")
print("a line of MXNet's", file=sys.stderr)
Path("b.png")

# %%
1 + 1
"""


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """A small tutorial in a folder of its own, with its Chinese."""
    source = tmp_path / "01_small.py"
    source.write_text(PROSE + CODE)
    marks = [f"<!-- en: {translations.digest(cell)} -->\n" for cell in ("# A title", "## Figures")]
    translations.chinese_file(source).write_text(f"{marks[0]}# 标题\n\n{marks[1]}## 图\n", encoding="utf-8")
    (tmp_path / "old.png").write_bytes(b"of an earlier run")
    for module in (outputs, weave):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    for name in outputs.SHARED:
        (tmp_path / name).write_text("")
    monkeypatch.setattr(outputs, "KEPT", tmp_path / "woven" / "outputs")
    monkeypatch.setattr(weave, "tutorial_sources", lambda: [source])
    return source


def test_a_tutorial_is_run_once_and_its_outputs_stand_in_the_notebooks_and_pages_of_both_languages(tutorial, capsys):
    found = weave.run_tutorials()[tutorial]
    assert [outputs.text_of(cell) for cell in found] == ["in a notebook", "two figures", "2"]
    first, second = outputs.figures_of(found[1])
    assert first == (tutorial.parent / "b.png").read_bytes() and second == (tutorial.parent / "a.png").read_bytes()
    assert outputs.figures_of(found[0]) == outputs.figures_of(found[2]) == []
    for language, title in (("en", "# A title"), ("zh", "# 标题")):
        notebook = weave.notebook_of(tutorial, language, tutorial.parent, outputs=found)
        nbformat.validate(notebook)
        assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code"] == found
        page = weave.page_of(tutorial, language, outputs=found, figures=tutorial.parent / language / "figures")
        assert page.startswith(title) and "```text\ntwo figures\n```\n\n![" in page and "```text\n2\n```" in page
        assert len(list((tutorial.parent / language / "figures").iterdir())) == 2
    capsys.readouterr()
    tutorial.write_text(PROSE.replace("A title", "Another title") + CODE)
    assert weave.run_tutorials()[tutorial] == found and capsys.readouterr().out == ""  # the code is the same
    tutorial.write_text(PROSE + CODE.replace("1 + 1", "1 + 2"))
    assert outputs.text_of(weave.run_tutorials()[tutorial][2]) == "3"


def test_an_error_in_a_cell_ends_the_run_and_nothing_is_kept(tutorial):
    tutorial.write_text(PROSE + "# %%\n1 / 0\n")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        weave.run_tutorials()
    assert not outputs.KEPT.exists()
