"""For mkdocs: what pages link to in the repository, outside docs/, is put on the site as well."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

LINK = re.compile(r"\]\(\.\./([^)#]+)\)")
FOLDER = "repository"


def on_files(files: Files, config: Any) -> Files:
    """Adds the files; one that is missing is an error, as any broken link is."""
    root = Path(config.config_file_path).parent
    wanted = {
        target
        for page in files.documentation_pages()
        for target in LINK.findall(page.content_string)
    }
    for target in sorted(wanted):
        source = str(root / target)
        files.append(File.generated(config, f"{FOLDER}/{target}", abs_src_path=source))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points the links to where these files are."""
    return LINK.sub(rf"]({FOLDER}/\1)", markdown)
