"""What a parameters cell may hold, and values that are refused before a kernel starts."""

from __future__ import annotations

import ast
import re

import pytest
from tiny_study import write_notebook

from bestofl_lib.files import ROOT
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.parameters import Parameter, check_value, choices, read_parameters, spoken
from bestofl_lib.study.preview import parameter_lines


def test_a_parameter_line_is_read_with_its_type_its_default_and_its_help(folders):
    found = read_parameters(folders.notebooks / "01_make_numbers.ipynb")
    assert list(found) == ["run", "rows", "languages"]
    assert found["languages"] == Parameter("languages", "list[str]", ["en", "de"], "codes")


def test_papermill_reads_the_same_parameters(folders):
    papermill = pytest.importorskip("papermill")
    path = folders.notebooks / "01_make_numbers.ipynb"
    theirs = papermill.inspect_notebook(path)
    ours = read_parameters(path)
    assert {n: (p["inferred_type_name"], p["help"]) for n, p in theirs.items()} == {
        n: (p.type, p.help) for n, p in ours.items()
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("run = 'tiny'", "write 'name: type = literal  # help'"),
        ("run: str = str(1)", "is not a literal"),
        ("run: dict = {}", "use one of str, int"),
        ("run: str", "write 'name: type = literal"),
        ("run: str = ", "is not Python"),
    ],
)
def test_a_parameters_cell_with_anything_else_is_refused(tmp_path, line, complaint):
    path = tmp_path / "01_x.ipynb"
    write_notebook(path, ["# T", "run: str = 'x'  # y"])
    path.write_text(path.read_text().replace("run: str = 'x'  # y", line))
    with pytest.raises(StudyError, match=complaint.replace("(", r"\(")):
        read_parameters(path)


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    write_notebook(tmp_path / "01_x.ipynb", ["# T", "x = 1"])
    with pytest.raises(StudyError, match="has 0 cells tagged 'parameters'; it needs exactly one"):
        read_parameters(tmp_path / "01_x.ipynb")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "007", "007"),
        ("str", "no", "no"),
        ("str", "1e3", "1e3"),
        ("int", "16", 16),
        ("float", "1e-3", 0.001),
        ("float", "2", 2.0),
        ("bool", "true", True),
        ("bool", "no", False),
        ("list[str]", "en,no", ["en", "no"]),
        ("list[str]", "[en, no]", ["en", "no"]),
        ("list[str]", '["en", "no"]', ["en", "no"]),
        ("list[int]", "1,2,4", [1, 2, 4]),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[str]", "", []),
    ],
)
def test_a_value_from_the_command_line_has_the_declared_type(kind, text, value):
    found = check_value(Parameter("p", kind, None, ""), text, "-p")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "1.5"), ("int", "1e3"), ("int", "x"), ("bool", "maybe"), ("list[int]", "1,x"), ("float", "")],
)
def test_a_value_of_another_type_is_refused_with_its_name(kind, text):
    with pytest.raises(StudyError, match="-p p=.*; expected"):
        check_value(Parameter("p", kind, None, ""), text, "-p")


@pytest.mark.parametrize(
    ("number", "given", "expected"),
    [
        ("01", "style=qestion", "'native', 'question' or 'few_shot'"),
        ("01", "engine=slurm", "use 'local', 'ray' or 'ray://head:10001'"),
        ("01", "device=gpu", "use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"),
        ("01", "dtype=int8", "'auto', 'float32', 'bfloat16' or 'float16'"),
        ("02", "columns=completoin:txt", "did you mean 'completion'"),
        ("04", "tuning=head", "'frozen', 'lora' or 'full'"),
        ("04", "loss=hinge", "'pairwise' or 'bce'"),
        ("04", "readout=heads", "'head', 'probe', 'implicit', 'verifier' or 'steps'"),
        ("04", "variants=mono,muti", "use 'mono', 'multi', 'cross' or 'mono-<language>'"),
        ("04", "cross_shares=fair", "'natural' or 'equal'"),
        ("05", "scope=mine", "'own' or 'all'"),
        ("08", "axis=thinkin", "'question', 'thinking' or 'answer'"),
        ("10", "split=tests", "'train', 'dev' or 'test'"),
    ],
)
def test_a_wrong_choice_is_refused_before_a_kernel_starts_with_the_choices(number, given, expected):
    [notebook] = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    name, _, text = given.partition("=")
    parameter = read_parameters(notebook)[name]
    as_in_yaml = text.split(",") if parameter.type == "list[str]" else text
    for where, value in (("-p", text), ("lab.yaml", as_in_yaml)):
        with pytest.raises(StudyError, match=f"{name}.*{re.escape(expected)}"):
            check_value(parameter, value, where)


def test_the_help_of_a_study_names_every_choice():
    described = {line.split()[0]: line for line in parameter_lines("lab") if line.startswith("  ")}
    closed = {name: choices(name) for name in described if choices(name)}
    assert {"style", "loss", "readout", "tuning"} <= closed.keys()
    for name, known in closed.items():
        assert all(choice in described[name] for choice in known), described[name]


@pytest.mark.parametrize("where", ["-p", "lab.yaml"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", "ray://head:10001"), ("device", "cuda:1"), ("variants", ["mono-en", "cross"])],
)
def test_choices_with_a_part_of_the_users_own_are_accepted(where, name, value):
    kind = "list[str]" if isinstance(value, list) else "str"
    text = ",".join(value) if isinstance(value, list) else value
    assert check_value(Parameter(name, kind, value, ""), text if where == "-p" else value, where) == value


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("choose one with model='32B'", "choose one with -p model=32B"),
        ("name it with columns={'language': 'lang'}", "name it with -p columns=language:lang"),
        ("leave them out with set_aside=True", "leave them out with -p set_aside=true"),
        ("such as languages=['en', 'sw']", "such as -p languages=en,sw"),
        ("choose languages=[…]", "choose -p languages=…"),
        ("name them rewards='mine=multi'", "name them -p rewards=mine=multi"),
        ("decimal_mark='.' or decimal_mark=','", "-p decimal_mark=. or -p decimal_mark=,"),
        ("unknown=True and -p model=mine", "unknown=True and -p model=mine"),
    ],
)
def test_advice_is_spoken_as_the_command_line_has_it(said, shown):
    names = ("model", "columns", "set_aside", "languages", "rewards", "decimal_mark")
    assert spoken(said, names) == shown


def test_no_message_of_the_library_advises_a_parameter_in_pythons_words():
    declared = {name for path in (ROOT / "notebooks").glob("*.ipynb") for name in read_parameters(path)}
    python = re.compile(rf"(?<!-p )(?<![\w.-])(?:{'|'.join(declared)})=(?:['\[{{]|True\b|False\b)")
    left = []
    for path in sorted((ROOT / "bestofl_lib").rglob("*.py")):
        for raised in (node for node in ast.walk(ast.parse(path.read_text("utf8"))) if isinstance(node, ast.Raise)):
            left += [f"{path.name}: {text}" for text in texts_of(raised) if python.search(spoken(text, declared))]
    assert not left, left


def texts_of(raised: ast.Raise) -> list[str]:
    """The texts of a raise statement, with x where a value is filled in."""
    filled = [node for node in ast.walk(raised) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in filled for part in node.values}
    alone = [n for n in ast.walk(raised) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    joined = ["".join(str(p.value) if isinstance(p, ast.Constant) else "x" for p in node.values) for node in filled]
    return joined + [str(node.value) for node in alone if id(node) not in parts]


@pytest.mark.parametrize(("kind", "value"), [
    ("str", "http://me:hunter2@host/v1"), ("str", "http://a/v1,http://hunter2@host/v1"), ("str", "https://host/v1?api_key=hunter2"),
    ("list[str]", "['http://me:hunter2@host/v1, served_model=x']"), ("list[str]", "data/x,https://host/v1?a=b&token=hunter2"),
])  # fmt: skip
def test_an_address_with_a_password_is_refused_without_showing_it(kind, value):
    parameter = Parameter("model", kind, "" if kind == "str" else [], "")
    for where, given in (("-p", value), ("mine.yaml", [value] if kind != "str" else value)):
        with pytest.raises(StudyError, match="BESTOFL_API_KEY") as caught:
            check_value(parameter, given, where)
        assert "hunter2" not in str(caught.value) and "model" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["hf://datasets/owner/name@main/x.csv", "http://host:8000/v1", "owner/model", "a@b/c", "keys=1"]
)
def test_addresses_without_a_password_pass(value):
    assert check_value(Parameter("model", "str", "", ""), value, "-p") == value
