"""The package's metadata, read from settings.ini, which nbdev reads too."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).resolve().parent
parser = ConfigParser(delimiters=["="])
parser.read(root / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]
name, package = settings["lib_name"], settings["lib_path"]

setup(
    name=name,
    version=settings["version"],
    description=settings["description"],
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    keywords=settings["keywords"].split(),
    license=settings["license"],
    license_files=["LICENSE"],
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=[package, f"{package}.*"]),
    package_data={
        package: ["py.typed"],  # says to type checkers that its annotations are meant for them
        f"{package}.curation": ["report.html"],  # the template of write_report
    },
    # the root itself goes on the path: an editable installation is found from any folder, and nbdev
    # finds its renderer, tests/api_pages.py, which is not packaged
    package_dir={"": "."},
    install_requires=settings["requirements"].split(),
    extras_require={
        extra: settings[f"{extra}_requirements"].split()
        for extra in ("dev", "rivals", "ray", "tensorboard", "wandb", "benchmarks")
    },
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{package}={package}._modidx:d"],
    },
    zip_safe=False,
)
