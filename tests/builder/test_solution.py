"""What students write is cut out, and all of it; what they read stays."""

import ast

from autograder.builder.solution import clear_solution, mark_solution

FUNCTION = '''\
def double(x: int) -> int:
    """Twice x."""
    # a comment that tells
    y = x + x

    return y
    # a comment at the end
'''
CLASS = '''\
class Layer(Base):
    """A layer."""

    kind = "layer"

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    @property
    def size(self) -> int:
        """How large."""
        return self.n * 2

    def forward(self, x):
        """Forward."""
        return x
'''


def test_a_function_keeps_its_signature_and_docstring():
    stub = clear_solution(mark_solution(FUNCTION))
    assert stub.strip() == (
        'def double(x: int) -> int:\n    """Twice x."""\n    # YOUR CODE HERE\n'
        "    raise NotImplementedError()"
    )


def test_a_class_keeps_every_method():
    stub = clear_solution(mark_solution(CLASS))
    assert stub.count("raise NotImplementedError()") == 3
    for kept in ('kind = "layer"', "@property", '"""How large."""', "def __init__(self, n: int)"):
        assert kept in stub
    for gone in ("self.n", "super()", "return x"):
        assert gone not in stub
    ast.parse(stub)


def test_the_solution_itself_is_unchanged():
    for source in (FUNCTION, CLASS):
        marked = mark_solution(source)
        assert [line for line in marked.split("\n") if "SOLUTION" not in line] == source.split("\n")


def test_smaller_regions_are_the_references_own():
    own = (
        'def f(x):\n    """Doc."""\n    y = x\n    ### BEGIN SOLUTION\n    y = 2 * y\n'
        "    ### END SOLUTION\n    return y\n"
    )
    assert mark_solution(own) == own
    assert "return y" in clear_solution(own)
    assert "2 * y" not in clear_solution(own)
