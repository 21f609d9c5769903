"""Renders a terminal transcript as two SVG files, for light and for dark pages.

    terminal.py TRANSCRIPT TITLE STEM    writes STEM-light.svg and STEM-dark.svg
"""

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.terminal_theme import TerminalTheme
from rich.text import Text
from rich.theme import Theme

# Colors of GitHub's pages, as in docs/picture-*.svg: background, text, red, green, yellow, blue, muted, border.
COLOURS = {
    "light": ("#f6f8fa", "#1f2328", "#cf222e", "#1a7f37", "#9a6700", "#0969da", "#59636e", "#d1d9e0"),
    "dark": ("#151b23", "#e6edf3", "#f85149", "#3fb950", "#d29922", "#4493f8", "#9198a1", "#3d444d"),
}
STYLES = {"prompt": "blue", "typed": "bold", "k.good": "green", "k.wait": "yellow", "k.ours": "blue", "k.quiet": "magenta"}

# Without Rich's own window, and without its fonts, which a page of GitHub would not load.
FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{width}} {{height}}" role="img" aria-label="{title}">
<style>
.{{unique_id}}-matrix {{{{
  font: {{char_height}}px/{{line_height}}px ui-monospace, SFMono-Regular, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}}}}
{{styles}}
</style>
<defs>
{{lines}}
</defs>
<rect width="100%" height="100%" rx="10" fill="{back}" stroke="{border}" stroke-width="3"/>
<text x="50%" y="28" text-anchor="middle" font-family="ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="17" fill="{quiet}">{title}</text>
<g transform="translate({{terminal_x}}, {{terminal_y}})">
{{backgrounds}}
<g class="{{unique_id}}-matrix">
{{matrix}}
</g>
</g>
</svg>
"""


class Kubectl(RegexHighlighter):
    """Marks what the eye looks for."""

    base_style = "k."
    highlights = [
        r"(?P<quiet>^[A-Z][A-Z ]{3,}$|^ +-{3,}[- ]*$|^ *…$)",
        r"(?P<ours>keyferry\.dev/\w+|\bkeyferry(?=  ))",
        r"(?P<good>\b1/1(?= *$)|\b2/2\b|\bTrue\b|\bchanges=[1-9]\d*)",
        r"(?P<wait>\b0/1(?= *$)|(?<=   )0/2\b|\bFalse\b)",
    ]


def rgb(colour: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(colour[1:]))


def lines(transcript: str) -> list[Text]:
    """A line that begins with `$ ` was typed."""
    highlight, drawn = Kubectl(), []
    for line in transcript.rstrip().splitlines():
        if line.startswith("$ "):
            text = Text.assemble(("$ ", "prompt"), (line[2:], "typed"))
        else:
            text = highlight(Text(line.rstrip()))
        text.pad(1)  # Air between text and frame.
        drawn.append(text)
    return drawn


def draw(transcript: str, title: str, colours: tuple[str, ...]) -> str:
    drawn = lines(transcript)
    console = Console(
        record=True,
        width=max(line.cell_len for line in drawn),
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
        theme=Theme(STYLES),
        highlight=False,
        legacy_windows=False,
    )
    for line in [*drawn, Text()]:  # And air below.
        console.print(line, no_wrap=True, crop=False)
    back, text, red, green, yellow, blue, quiet, border = colours
    palette = [rgb(colour) for colour in (back, red, green, yellow, blue, quiet, blue, text)]
    form = FORMAT.format(back=back, border=border, quiet=quiet, title=title)
    theme = TerminalTheme(rgb(back), rgb(text), palette)
    return console.export_svg(title=title, theme=theme, code_format=form, unique_id="t")


def main() -> None:
    transcript, title, stem = Path(sys.argv[1]).read_text(), sys.argv[2], sys.argv[3]
    for page, colours in COLOURS.items():
        Path(f"{stem}-{page}.svg").write_text(draw(transcript, title, colours))


if __name__ == "__main__":
    main()
