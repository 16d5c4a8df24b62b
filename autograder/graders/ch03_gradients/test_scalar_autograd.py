"""Reverse-mode automatic differentiation of single numbers.

Values hold Python floats, so every case is judged in one dtype, and alike on every device.
An operation is judged by its number and by the derivatives that its record gives, whatever the
record's shape: a difference may be recorded as one step or as a sum and a negation.
Histories for ``topological_order`` and ``backward`` are built of stand-ins with the same
attributes, so that a mistake in ``Value`` costs nothing there.
"""

import torch

from autograder.spec import Case, Exercise, Mistake
from autograder.spec.tables import slips, variants, written

FLOATS = (torch.float64,)
DEEP = 5000  # beyond Python's recursion, in the worker and in the grader


def cases(*rows):
    return [Case(title, scenario, inputs, dtypes=FLOATS) for title, scenario, inputs in rows]


# ---------------------------------------------------------------- Value


def derivative(result, operand):
    """The sum over every path of the record."""
    if result is operand:
        return 1.0
    steps = zip(result.parents, result.local_grads, strict=False)
    return sum((local * derivative(parent, operand) for parent, local in steps), 0.0)


def told_of(impl, result, **operands):
    """What an operation made, and what became of its operands."""
    facts: dict[str, object] = {"a Value is returned": isinstance(result, impl)}
    if not isinstance(result, impl):
        return facts
    facts |= {"the number": result.data, "grad of the result": result.grad}
    facts["a new Value is made"] = all(result is not operand for operand in operands.values())
    for name, operand in operands.items():
        facts[f"the derivative with respect to {name}"] = derivative(result, operand)
        facts[f"{name} afterwards"] = [operand.data, operand.grad]
    facts["parents is a tuple of Values"] = isinstance(result.parents, tuple) and all(
        isinstance(parent, impl) for parent in result.parents
    )
    return facts


PAIRS = {
    "sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "difference": lambda a, b: a - b,
    "quotient": lambda a, b: a / b,
}
SINGLES = {
    "power": lambda a, n: a**n,
    "exponential": lambda a, _: a.exp(),
    "tanh": lambda a, _: a.tanh(),
    "relu": lambda a, _: a.relu(),
    "negation": lambda a, _: -a,
    "number on the right of +": lambda a, n: a + n,
    "number on the left of +": lambda a, n: n + a,
    "number on the right of -": lambda a, n: a - n,
    "number on the left of -": lambda a, n: n - a,
    "number on the right of *": lambda a, n: a * n,
    "number on the left of *": lambda a, n: n * a,
    "number on the right of /": lambda a, n: a / n,
    "number on the left of /": lambda a, n: n / a,
}


def made(impl, number):
    value = impl(number)
    return {
        "data": value.data,
        "data is a float": isinstance(value.data, float),
        "grad": value.grad,
        "the number of parents": len(value.parents),
        "the number of local derivatives": len(value.local_grads),
    }


def made_with_history(impl, number, slope):
    parent = impl(number)
    value = impl(2.0 * number, (parent,), (slope,))
    return {
        "data": value.data,
        "the parent is kept": value.parents[0] is parent,
        "the local derivative": value.local_grads[0],
    }


def of_two(impl, operation, a, b):
    a, b = impl(a), impl(b)
    return told_of(impl, PAIRS[operation](a, b), a=a, b=b)


def of_itself(impl, operation, a):
    a = impl(a)
    result = PAIRS[operation](a, a)
    uses = sum(parent is a for parent in result.parents) if isinstance(result, impl) else 0
    return told_of(impl, result, a=a) | {"how often a stands among the parents": uses}


def of_one(impl, operation, a, n):
    a = impl(a)
    return told_of(impl, SINGLES[operation](a, n), a=a)


def of_an_expression(impl, a, b, c):
    a, b, c = impl(a), impl(b), impl(c)
    hidden = (a * b + b**3 - 2 * c).tanh()
    out = (hidden + 1) / (c - a * a) + (0.5 - b).exp() * hidden.relu() - 3 / c
    return told_of(impl, out, a=a, b=b, c=c)


def number(make, low=0.6, high=2.5):
    return make.number(low, high) * make.choice((-1.0, 1.0))


def two(operation):
    return lambda make: {"operation": operation, "a": number(make), "b": number(make)}


def one(operation, low=-2.0, high=2.0, n=0):
    return lambda make: {"operation": operation, "a": make.number(low, high), "n": n}


def at(operation, a):
    return lambda _: {"operation": operation, "a": a, "n": 0}


class ValueByTorch:
    """A Value whose local derivatives come from PyTorch's autograd."""

    def __init__(self, data, parents=(), local_grads=()):
        self.data, self.grad = float(data), 0.0
        self.parents, self.local_grads = parents, local_grads

    @classmethod
    def of(cls, function, *operands):
        operands = tuple(o if isinstance(o, cls) else cls(o) for o in operands)
        leaves = [torch.tensor(o.data, dtype=torch.float64, requires_grad=True) for o in operands]
        result = function(*leaves)
        slopes = torch.autograd.grad(result, leaves)
        return cls(result.item(), operands, tuple(slope.item() for slope in slopes))

    def __add__(self, other):
        return self.of(torch.add, self, other)

    def __mul__(self, other):
        return self.of(torch.mul, self, other)

    def __pow__(self, exponent):
        return self.of(lambda x: x**exponent, self)

    def exp(self):
        return self.of(torch.exp, self)

    def tanh(self):
        return self.of(torch.tanh, self)

    def relu(self):
        return self.of(torch.relu, self)

    def __neg__(self):
        return self.of(torch.neg, self)

    def __sub__(self, other):
        return self.of(torch.sub, self, other)

    def __truediv__(self, other):
        return self.of(torch.div, self, other)

    def __radd__(self, other):
        return self.of(torch.add, other, self)

    def __rmul__(self, other):
        return self.of(torch.mul, other, self)

    def __rsub__(self, other):
        return self.of(torch.sub, other, self)

    def __rtruediv__(self, other):
        return self.of(torch.div, other, self)


ADD = "return Value(self.data + other.data, (self, other), (1.0, 1.0))"
MUL = "(other.data, self.data)"
POWER = "slope = exponent * self.data ** (exponent - 1)"
LIFT = "        other = other if isinstance(other, Value) else Value(other)\n"

value = Exercise(
    "Value",
    oracle=ValueByTorch,
    forbids=["torch.autograd", "torch.autograd.grad", "torch.Tensor.backward", "torch.func"],
    mistakes=[
        *slips(
            ADD,
            """
            sum recorded like a product
                return Value(self.data + other.data, (self, other), (other.data, self.data))
            A sum passes a change of either operand on as it is: its local derivatives are not
            those of a product.

            sum without a history
                return Value(self.data + other.data)
            The number is right, but the result has forgotten where it came from: record its
            operands.

            sum in place
                self.data += other.data
                        return self
            An operation makes a new Value: its operands stay as they are.

            sum that records one operand
                return Value(self.data + other.data, (self,), (1.0,))
            Both operands belong into the history.

            data in place of Values as parents
                return Value(self.data + other.data, (self.data, other.data), (1.0, 1.0))
            The parents are the operands themselves, so that the way back can reach their grad.
            """,
        ),
        *slips(
            MUL,
            """
            product's derivatives swapped
                (self.data, other.data)
            How fast does a·b change with a? Each operand's local derivative is the other one.

            product recorded like a sum
                (1.0, 1.0)
            A change of one operand is multiplied by the other: 1 is the local derivative of a sum.

            product's derivatives by themselves
                (self.data * other.data, self.data * other.data)
            The local derivative is how fast the product changes, and not the product itself.
            """,
        ),
        *slips(
            POWER,
            """
            power keeps its exponent
                slope = exponent * self.data**exponent
            The derivative of xⁿ has a lower power than xⁿ itself.

            power without its factor
                slope = self.data ** (exponent - 1)
            The derivative of xⁿ has n as a factor.

            power of a positive base only
                slope = exponent * abs(self.data) ** (exponent - 1)
            For a negative base the sign of the lower power counts.

            power's exponent made a whole number
                exponent = int(exponent)
                        slope = exponent * self.data ** (exponent - 1)
            The exponent may be a fraction, such as ½ for a root: keep it as it is.
            """,
        ),
        *slips(
            "return Value(result, (self,), (result,))",
            """
            exponential differentiated like a power
                return Value(result, (self,), (self.data * math.exp(self.data - 1),))
            The power rule is for x in the base. With x in the exponent the derivative is the
            exponential itself.

            exponential with a slope of one
                return Value(result, (self,), (1.0,))
            The exponential is its own derivative.

            exponential with the input as its slope
                return Value(result, (self,), (self.data,))
            The derivative of the exponential is its result, not its input.
            """,
        ),
        *slips(
            "(1.0 - result**2,)",
            """
            tanh's derivative from its input
                (1.0 - self.data**2,)
            In 1 − t² the t is the result of tanh, not its input.

            tanh's derivative without the square
                (1.0 - result,)
            The derivative of tanh is 1 − t²: the square is missing.

            sigmoid's derivative for tanh
                (result * (1.0 - result),)
            That is the sigmoid's derivative; tanh has one of its own.

            sign in tanh's derivative
                (1.0 + result**2,)
            tanh flattens out, so its derivative is never above 1: look at the sign.
            """,
        ),
        Mistake(
            "tanh overflows",
            "result = math.tanh(self.data)",
            "e = math.exp(2 * self.data)\n        result = (e - 1) / (e + 1)",
            "The formula is right, but its exponential overflows for large numbers.",
        ),
        *slips(
            "(1.0 if self.data > 0 else 0.0,)",
            """
            relu with a slope of one at zero
                (1.0 if self.data >= 0 else 0.0,)
            At exactly 0 the docstring takes the derivative as 0.

            relu with a slope everywhere
                (1.0,)
            Below 0 relu is flat, so nothing passes.

            relu with the input as its slope
                (max(self.data, 0.0),)
            The derivative of relu is 1 or 0, whatever the size of its input.
            """,
        ),
        Mistake(
            "relu lets negative numbers through",
            "Value(max(self.data, 0.0), (self,)",
            "Value(self.data, (self,)",
            "relu is max(x, 0): a negative number becomes 0.",
        ),
        Mistake(
            "relu by its absolute value",
            "Value(max(self.data, 0.0), (self,)",
            "Value(abs(self.data), (self,)",
            "relu is max(x, 0): a negative number becomes 0, and does not turn its sign.",
        ),
        Mistake(
            "negation without a history",
            "return self * -1.0",
            "return Value(-self.data)",
            "A Value made of a number alone has no history: derivatives end there.",
        ),
        *slips(
            "return self + (-other)",
            """
            difference recorded like a sum
                other = other if isinstance(other, Value) else Value(other)
                        return Value(self.data - other.data, (self, other), (1.0, 1.0))
            The result falls as the second operand rises: its local derivative is negative.
            """,
        ),
        *slips(
            "return self * other**-1",
            """
            quotient's second derivative without its sign
                other = other if isinstance(other, Value) else Value(other)
                        a, b = self.data, other.data
                        return Value(a / b, (self, other), (1 / b, a / b**2))
            A quotient falls as its denominator rises: a sign is missing.

            quotient with a constant denominator
                other = other if isinstance(other, Value) else Value(other)
                        return self * (1 / other.data)
            The denominator is part of the history too.

            whole quotient
                other = other if isinstance(other, Value) else Value(other)
                        quotient = self * other**-1
                        quotient.data = self.data // other.data
                        return quotient
            // drops the fraction: a quotient of Values is an ordinary one.
            """,
        ),
        Mistake(
            "number minus a Value the wrong way round",
            "return -self + other",
            "return self - other",
            "n - a and a - n differ in sign: in __rsub__ the number stands on the left.",
        ),
        Mistake(
            "number over a Value the wrong way round",
            "return self**-1 * other",
            "return self / other",
            "n / a is not a / n: in __rtruediv__ the number stands on the left.",
        ),
        Mistake.edits_of(
            "plain numbers not taken",
            [
                (LIFT + "        " + ADD, "        " + ADD),
                (
                    LIFT + "        return Value(self.data * other.data",
                    "        return Value(self.data * other.data",
                ),
            ],
            "A plain number has no data: make a Value of it before you use it like one.",
        ),
        Mistake(
            "whole numbers kept",
            "self.data = float(data)",
            "self.data = data",
            "data is a float, also where a whole number was given.",
        ),
        Mistake(
            "grad begins at one",
            "self.grad = 0.0",
            "self.grad = 1.0",
            "A new Value has no gradient yet: 0.0. Only the result that the way back starts from "
            "has a derivative of 1 with respect to itself.",
        ),
        Mistake(
            "parents without repetition",
            "self.parents = parents",
            "self.parents = tuple(dict.fromkeys(parents))",
            "An operand that is used twice has two paths to the result, so it stands there twice.",
        ),
        Mistake(
            "history not kept",
            "self.parents = parents\n        self.local_grads = local_grads",
            "self.parents = ()\n        self.local_grads = ()",
            "The history that comes with a Value has to be stored in it.",
        ),
        Mistake(
            "operand listed once",
            ADD,
            "if other is self:\n            return Value(2 * self.data, (self,), (2.0,))\n        "
            + ADD,
            "An operand that is used twice stands among the parents twice, once for each use.",
        ),
        Mistake(
            "nothing made where nothing is added",
            ADD,
            "if other.data == 0:\n            return self\n        " + ADD,
            "An operation always makes a new Value, also where it changes nothing: yours hands "
            "back the "
            "operand itself.",
        ),
        Mistake(
            "operands of a difference swapped",
            "return self + (-other)",
            "return -self + other",
            "In a - b the number in front is your own: yours is b - a.",
        ),
        Mistake(
            "grad begins as None",
            "self.grad = 0.0",
            "self.grad = None",
            "grad is 0.0 until the way back has been there, so that it can be added to.",
        ),
        Mistake(
            "parents as a list",
            "self.parents = parents",
            "self.parents = list(parents)",
            "parents is a tuple, as it was handed in: yours is a list.",
        ),
        Mistake(
            "sign turned in place",
            "return self * -1.0",
            "self.data = -self.data\n        return self",
            "No operation changes its operands: make a new Value with the sign turned.",
        ),
    ],
    variants=variants(
        """
        every operation written out
            class Value:
                def __init__(self, data, parents=(), local_grads=()):
                    self.data, self.grad = float(data), 0.0
                    self.parents, self.local_grads = tuple(parents), tuple(local_grads)
                @staticmethod
                def lift(x):
                    return x if isinstance(x, Value) else Value(x)
                def __add__(self, other):
                    other = Value.lift(other)
                    return Value(self.data + other.data, (other, self), (1, 1))
                __radd__ = __add__
                def __mul__(self, other):
                    other = self.lift(other)
                    return Value(other.data * self.data, [self, other], [other.data, self.data])
                __rmul__ = __mul__
                def __pow__(self, n):
                    return Value(self.data**n, (self,), (n * self.data**n / self.data,))
                def exp(self):
                    return Value(math.exp(self.data), (self,), (math.exp(self.data),))
                def tanh(self):
                    return Value(math.tanh(self.data), (self,), (1 - math.tanh(self.data) ** 2,))
                def relu(self):
                    if self.data > 0:
                        return Value(self.data, (self,), (1,))
                    return Value(0, (self,), (0,))
                def __neg__(self):
                    return Value(-self.data, (self,), (-1,))
                def __sub__(self, other):
                    other = self.lift(other)
                    return Value(self.data - other.data, (self, other), (1, -1))
                def __rsub__(self, other):
                    return self.lift(other) - self
                def __truediv__(self, other):
                    a, other = self.data, self.lift(other)
                    b = other.data
                    return Value(a / b, (self, other), (1 / b, -a / b**2))
                def __rtruediv__(self, other):
                    return self.lift(other) / self

        constants not recorded
            class Value:
                def __init__(self, data, parents=(), local_grads=()):
                    self.data = data * 1.0
                    self.grad = 0.0
                    self.parents = parents
                    self.local_grads = local_grads
                def __add__(self, other):
                    if isinstance(other, Value):
                        return Value(self.data + other.data, (self, other), (1.0, 1.0))
                    return Value(self.data + other, (self,), (1.0,))
                def __mul__(self, other):
                    if isinstance(other, Value):
                        return Value(self.data * other.data, (self, other), (other.data, self.data))
                    return Value(self.data * other, (self,), (float(other),))
                def __pow__(self, exponent):
                    below = pow(self.data, exponent - 1)
                    return Value(below * self.data, (self,), (exponent * below,))
                def exp(self):
                    out = Value(math.e**self.data, (self,))
                    out.local_grads = (out.data,)
                    return out
                def tanh(self):
                    return Value(math.tanh(self.data), (self,), (1 / math.cosh(
                        min(abs(self.data), 300)) ** 2,))
                def relu(self):
                    return Value(self.data * (self.data > 0), (self,), (float(self.data > 0),))
                def __neg__(self):
                    return -1 * self
                def __sub__(self, other):
                    return self + -1 * other
                def __truediv__(self, other):
                    return self * (other**-1 if isinstance(other, Value) else 1 / other)
                def __radd__(self, other):
                    return self + other
                def __rmul__(self, other):
                    return self * other
                def __rsub__(self, other):
                    return other + -self
                def __rtruediv__(self, other):
                    return other * self**-1

        more operations and a backward of its own
            class Value:
                def __init__(self, data, parents=(), local_grads=()):
                    self.parents, self.local_grads = parents, local_grads
                    self.data, self.grad = float(data), 0.0
                def __repr__(self):
                    return f"Value({self.data:.4g}, grad={self.grad:.4g})"
                def _apply(self, data, *steps):
                    return Value(data, tuple(p for p, _ in steps), tuple(g for _, g in steps))
                def __add__(self, other):
                    other = other if isinstance(other, Value) else Value(other)
                    return self._apply(self.data + other.data, (self, 1.0), (other, 1.0))
                def __mul__(self, other):
                    other = other if isinstance(other, Value) else Value(other)
                    data = self.data * other.data
                    return self._apply(data, (self, other.data), (other, self.data))
                def __pow__(self, n):
                    return self._apply(self.data**n, (self, n * self.data ** (n - 1)))
                def log(self):
                    return self._apply(math.log(self.data), (self, 1 / self.data))
                def exp(self):
                    return self._apply(math.exp(self.data), (self, math.exp(self.data)))
                def tanh(self):
                    t = math.tanh(self.data)
                    return self._apply(t, (self, (1 - t) * (1 + t)))
                def relu(self):
                    return self._apply(max(0.0, self.data), (self, float(self.data > 0)))
                def __neg__(self):
                    return self * -1
                def __sub__(self, other):
                    return self + (-other)
                def __truediv__(self, other):
                    return self * other**-1
                def __radd__(self, other):
                    return self + other
                def __rmul__(self, other):
                    return self * other
                def __rsub__(self, other):
                    return (self - other) * -1
                def __rtruediv__(self, other):
                    return (self / other) ** -1
        """
    ),
)


@value.test(
    points=1.5,
    cases=cases(
        ("a number", made, lambda make: {"number": number(make)}),
        ("a whole number", made, lambda _: {"number": 3}),
        (
            "a number with a history",
            made_with_history,
            lambda make: {"number": number(make), "slope": number(make)},
        ),
        ("a sum", of_two, two("sum")),
        ("a product", of_two, two("product")),
        ("a Value added to itself", of_itself, lambda m: {"operation": "sum", "a": number(m)}),
        ("a Value squared as a·a", of_itself, lambda m: {"operation": "product", "a": number(m)}),
    ),
)
def test_records_sums_and_products(submission, case):
    """Stores numbers, and records sums and products"""
    submission.matches_reference(case)


@value.test(
    points=2,
    cases=cases(
        ("a cube", of_one, one("power", -2.0, -0.5, n=3)),
        ("a square", of_one, one("power", -2.0, -0.5, n=2)),
        ("a root", of_one, one("power", 0.5, 3.0, n=0.5)),
        ("a negative power", of_one, one("power", -2.0, -0.5, n=-2)),
        ("an exponential", of_one, one("exponential", 0.3, 2.0)),
        ("an exponential of a negative number", of_one, one("exponential", -3.0, -0.5)),
        ("tanh", of_one, one("tanh", 0.3, 1.5)),
        ("tanh of a negative number", of_one, one("tanh", -1.5, -0.3)),
        ("tanh of a very large number", of_one, one("tanh", 800.0, 1500.0)),
        ("tanh of a very negative number", of_one, one("tanh", -1500.0, -800.0)),
        ("relu of a positive number", of_one, one("relu", 0.3, 0.9)),
        ("relu of a negative number", of_one, one("relu", -3.0, -1.5)),
        ("relu of zero", of_one, at("relu", 0.0)),
    ),
)
def test_records_powers_and_functions(submission, case):
    """Records powers, exp, tanh and relu"""
    submission.matches_reference(case)


@value.test(
    points=1.5,
    cases=cases(
        ("a negation", of_one, one("negation")),
        ("a difference", of_two, two("difference")),
        ("a quotient", of_two, two("quotient")),
        ("nothing added", of_one, one("number on the right of +", 0.6, 2.0, n=0)),
        ("nothing on the left of +", of_one, one("number on the left of +", 0.6, 2.0, n=0)),
        *(
            (f"a {name}", of_one, one(name, 0.6, 2.0, n=n))
            for name, n in zip(list(SINGLES)[5:], (3, 0.7, 2, 1.5, -4, 2.5, 3, 0.4), strict=True)
        ),
    ),
)
def test_takes_differences_quotients_and_numbers(submission, case):
    """Records differences and quotients, and takes plain numbers on either side"""
    submission.matches_reference(case)


@value.test(
    points=1,
    cases=cases(
        (
            "an expression of three Values",
            of_an_expression,
            lambda make: {
                "a": make.number(0.4, 0.8),
                "b": make.number(0.5, 1.0),
                "c": make.number(-1.5, -0.9),
            },
        ),
        (
            "another expression of three Values",
            of_an_expression,
            lambda make: {
                "a": make.number(-0.8, -0.4),
                "b": make.number(-1.0, -0.5),
                "c": make.number(0.9, 1.5),
            },
        ),
    ),
)
def test_records_whole_expressions(submission, case):
    """Records whole expressions"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- topological_order


class Node:
    """What a Value looks like to whoever follows its history."""

    def __init__(self, data, parents, local_grads):
        self.data, self.grad = data, 0.0
        self.parents, self.local_grads = parents, local_grads


def build(history, slopes=None):
    """Nodes from lists of their parents' places; every second one shares its number."""
    nodes = []
    for i, parents in enumerate(history):
        local = tuple(slopes[i]) if slopes else tuple(1.0 for _ in parents)
        nodes.append(Node(float(i // 2), tuple(nodes[p] for p in parents), local))
    return nodes


def spelled(nodes, order):
    """The places of an order as text, so that one that is too long or too short is told too."""
    place = {id(node): i for i, node in enumerate(nodes)}
    return " ".join(str(place.get(id(node), -1)) for node in order)


def places(impl, history):
    nodes = build(history)
    before = [node.parents for node in nodes]
    order = spelled(nodes, impl(nodes[-1]))
    kept = all(node.parents is parents for node, parents in zip(nodes, before, strict=True))
    return {"the order": order, "the history is left as it was": kept}


def places_of_two(impl, history):
    """The order of a part, and then of the whole."""
    nodes = build(history)
    part = len(list(impl(nodes[3])))
    return {"the order": spelled(nodes, impl(nodes[-1])), "Values of a part": part}


def places_in_a_chain(impl, length):
    nodes = build([[i - 1] if i else [] for i in range(length)])
    order = list(impl(nodes[-1]))
    return {
        "how many Values are listed": len(order),
        "they stand as in the chain": all(a is b for a, b in zip(nodes, order, strict=False)),
    }


def facts_of_order(outcome, inputs):
    history = inputs["history"]
    order = [int(place) for place in outcome["the order"].split()]
    place = {node: at for at, node in enumerate(order)}
    return {
        "every Value is there": set(place) == set(range(len(history))),
        "every Value is there only once": len(place) == len(order),
        "parents come before what was computed from them": all(
            place.get(p, len(order)) < place.get(i, -1)
            for i, parents in enumerate(history)
            for p in parents
        ),
        "the root is the last": bool(order) and order[-1] == len(history) - 1,
        "the history is left as it was": outcome.get("the history is left as it was", True),
        "Values of a part": outcome.get("Values of a part", 0),
    }


# In each list: the parents of node i. The last node is the root, and reaches all of them.
HISTORIES: dict[str, list[list[int]]] = {
    "a single Value": [[]],
    "one operation": [[], [], [0, 1]],
    "a tree": [[], [], [], [], [0, 1], [2, 3], [4, 5]],
    "an operand that is used twice at once": [[], [0, 0], [1]],
    "an operand of two operations": [[], [0], [0], [1, 2]],
    "the same, the other way round": [[], [], [0], [0, 1], [3, 2]],
    "a short way and a long way": [[], [0], [1], [2], [0, 3]],
    "a long way and a short way": [[], [0], [1], [2], [3, 0]],
    "a ladder": [[], *[[i - 1, max(i - 2, 0)] for i in range(1, 11)]],
    "several uses at several depths": [[], [], [0, 1], [2, 0], [3, 1], [2, 4], [5, 3], [6, 0, 4]],
}


def mixed(make):
    """Ten operations on random earlier Values, each result used at once by the next."""
    history = [[], []]
    for i in range(2, 12):
        history.append([i - 1, int(make.integers(0, i - 1, 1))])
    history.append([12 - 1, 0, 1])
    return {"history": history}


def order_by_counting(root):
    """Kahn's algorithm: a Value is ready when everything computed from it has been taken."""
    uses, found, waiting = {id(root): 0}, [root], [root]
    while waiting:
        for parent in waiting.pop().parents:
            if id(parent) not in uses:
                uses[id(parent)] = 0
                found.append(parent)
                waiting.append(parent)
            uses[id(parent)] += 1
    ready, taken = [root], []
    while ready:
        node = ready.pop()
        taken.append(node)
        for parent in node.parents:
            uses[id(parent)] -= 1
            if uses[id(parent)] == 0:
                ready.append(parent)
    return taken[::-1]


def order_case(title, scenario, inputs):
    return Case(title, scenario, inputs, observe=facts_of_order, dtypes=FLOATS)


topological_order = Exercise(
    "topological_order",
    oracle=order_by_counting,
    mistakes=[
        *slips(
            "return order",
            """
            root first
                return order[::-1]
            The order is turned round: what was computed first comes first, the root last.

            root left out
                return order[:-1]
            The root belongs to its own history, as the last.

            computed Values only
                return [node for node in order if node.parents]
            Values without parents belong into the order too: they are where gradients end up.
            """,
        ),
        *slips(
            "if id(node) not in seen:",
            """
            no memory of what was seen
                if True:
            A Value that is used twice is reached twice: remember which ones have been there.
            """,
        ),
        Mistake.edits_of(
            "told apart by their numbers",
            [
                ("id(node) not in seen", "node.data not in seen"),
                ("seen.add(id(node))", "seen.add(node.data)"),
            ],
            "Two Values may hold the same number and are still two: tell them apart by identity.",
        ),
        Mistake(
            "only the first parent",
            "for parent in node.parents",
            "for parent in node.parents[:1]",
            "Every parent has a history of its own to be followed.",
        ),
        *written(
            """
            too deep for recursion
                def topological_order(root):
                    order, seen = [], set()
                    def visit(node):
                        if id(node) not in seen:
                            seen.add(id(node))
                            for parent in node.parents:
                                visit(parent)
                            order.append(node)
                    visit(root)
                    return order
            The order is right, but a history that is thousands of operations deep exceeds Python's
            recursion. Keep a stack of your own.

            turned round preorder
                def topological_order(root):
                    order, seen, stack = [], set(), [root]
                    while stack:
                        node = stack.pop()
                        if id(node) not in seen:
                            seen.add(id(node))
                            order.append(node)
                            stack.extend(node.parents)
                    return order[::-1]
            Turning the order of the first visits round is right for trees only. Where a Value is
            used again deeper down, it comes too late: it may enter the order only after its
            parents.

            breadth first
                def topological_order(root):
                    order, seen, queue = [], {id(root)}, [root]
                    while queue:
                        node = queue.pop(0)
                        order.append(node)
                        for parent in node.parents:
                            if id(parent) not in seen:
                                seen.add(id(parent))
                                queue.append(parent)
                    return order[::-1]
            The distance from the root does not decide: a Value near the root may also stand at the
            end of a longer way.

            parents of the root only
                def topological_order(root):
                    order = []
                    for parent in root.parents:
                        if not any(parent is other for other in order):
                            order.append(parent)
                    return [*order, root]
            The parents have parents themselves: follow the history all the way.
            """
        ),
        *written(
            """
            marks left on the Values
                def topological_order(root):
                    order, stack = [], [(root, False)]
                    while stack:
                        node, done = stack.pop()
                        if done:
                            order.append(node)
                        elif not getattr(node, "visited", False):
                            node.visited = True
                            stack.append((node, True))
                            stack.extend((parent, False) for parent in node.parents)
                    return order
            A mark on the Values themselves is still there in the next call, which then takes them
            for visited:
            keep your own record of them, made anew each time.
            """,
        ),
    ],
    variants=variants(
        """
        recursion with a higher limit
            def topological_order(root):
                import sys
                order, seen = [], set()
                def visit(node):
                    if node not in seen:
                        seen.add(node)
                        for parent in node.parents:
                            visit(parent)
                        order.append(node)
                limit = sys.getrecursionlimit()
                sys.setrecursionlimit(100_000)
                try:
                    visit(root)
                finally:
                    sys.setrecursionlimit(limit)
                return order

        a stack of iterators
            def topological_order(root):
                order, seen, stack = [], {root}, [(root, iter(root.parents))]
                while stack:
                    node, parents = stack[-1]
                    for parent in parents:
                        if parent not in seen:
                            seen.add(parent)
                            stack.append((parent, iter(parent.parents)))
                            break
                    else:
                        order.append(node)
                        stack.pop()
                return order

        peeled from the root
            def topological_order(root):
                from collections import Counter, deque
                uses, seen, queue = Counter(), {id(root)}, deque([root])
                while queue:
                    node = queue.popleft()
                    for parent in node.parents:
                        uses[id(parent)] += 1
                        if id(parent) not in seen:
                            seen.add(id(parent))
                            queue.append(parent)
                order = deque()
                queue.append(root)
                while queue:
                    node = queue.popleft()
                    order.appendleft(node)
                    for parent in node.parents:
                        uses[id(parent)] -= 1
                        if not uses[id(parent)]:
                            queue.append(parent)
                return list(order)
        """
    ),
)


@topological_order.test(
    points=1.5,
    cases=[
        *(
            order_case(title, places, lambda _, history=history: {"history": history})
            for title, history in HISTORIES.items()
        ),
        order_case("a random history", places, mixed),
        order_case(
            "a part of a history before the whole of it",
            places_of_two,
            lambda _: {"history": HISTORIES["several uses at several depths"]},
        ),
    ],
)
def test_parents_come_first(submission, case):
    """Lists every Value once, after its parents"""
    submission.matches_reference(case)


@topological_order.test(
    points=1, cases=cases(("a long chain", places_in_a_chain, lambda _: {"length": DEEP}))
)
def test_any_depth(submission, case):
    """Works for histories far deeper than Python's recursion"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- backward


def after(nodes, history, slopes):
    kept = all(
        len(node.parents) == len(parents) and list(node.local_grads) == list(local)
        for node, parents, local in zip(nodes, history, slopes, strict=True)
    )
    return {"the gradients": [node.grad for node in nodes], "the history is still there": kept}


def once(impl, history, slopes):
    nodes = build(history, slopes)
    impl(nodes[-1])
    return after(nodes, history, slopes)


def twice(impl, history, slopes):
    nodes = build(history, slopes)
    impl(nodes[-1])
    impl(nodes[-1])
    return after(nodes, history, slopes)


def two_results(impl, history, slopes, other):
    """First from an inner Value, then from the root that uses it too."""
    nodes = build(history, slopes)
    impl(nodes[other])
    impl(nodes[-1])
    return after(nodes, history, slopes)


def with_earlier(impl, history, slopes, earlier):
    nodes = build(history, slopes)
    for node, grad in zip(nodes, earlier, strict=True):
        node.grad = grad
    impl(nodes[-1])
    return after(nodes, history, slopes)


def down_a_chain(impl, slopes):
    history = [[i - 1] if i else [] for i in range(len(slopes) + 1)]
    nodes = build(history, [[], *([slope] for slope in slopes)])
    impl(nodes[-1])
    return {"the first gradient": nodes[0].grad, "the last but one": nodes[-2].grad}


def history_of(title, earlier=False, other=None):
    history = HISTORIES[title]

    def inputs(make):
        slopes = [[number(make, 0.4, 1.6) for _ in parents] for parents in history]
        found = {"history": history, "slopes": slopes}
        if earlier:
            found["earlier"] = [number(make) for _ in history]
        return found if other is None else {**found, "other": other}

    return inputs


def backward_by_counting(root):
    """Peels the history from the root: a Value's gradient is whole when no use of it is left."""
    uses, waiting, nodes = {id(root): 0}, [root], [root]
    while waiting:
        for parent in waiting.pop().parents:
            if id(parent) not in uses:
                uses[id(parent)] = 0
                waiting.append(parent)
                nodes.append(parent)
            uses[id(parent)] += 1
    total, ready = {id(node): 0.0 for node in nodes}, [root]
    total[id(root)] = 1.0
    while ready:
        node = ready.pop()
        node.grad = total[id(node)] + (0.0 if node.parents else node.grad)
        for parent, local in zip(node.parents, node.local_grads, strict=True):
            total[id(parent)] += local * total[id(node)]
            uses[id(parent)] -= 1
            if uses[id(parent)] == 0:
                ready.append(parent)


SHARE = "parent.grad += local * node.grad"
RESET = "if node.parents:\n            node.grad = 0.0"

backward = Exercise(
    "backward",
    oracle=backward_by_counting,
    mistakes=[
        *slips(
            SHARE,
            """
            overwritten
                parent.grad = local * node.grad
            A Value that is used more than once gets a share from each use: add them up.

            local derivative alone
                parent.grad += local
            The chain rule multiplies: the local derivative times what has arrived at the result.

            parent's own gradient used
                parent.grad += local * parent.grad
            What is passed on is the gradient of the result, times the local derivative.

            gradient handed on unchanged
                parent.grad += node.grad
            On its way to a parent the gradient is multiplied by the local derivative.

            sum in place of a product
                parent.grad += local + node.grad
            The chain rule multiplies the two derivatives.

            history cleared
                parent.grad += local * node.grad
                        node.parents = ()
            Nothing but grad may change: another call may need the history again.
            """,
        ),
        *slips(
            RESET,
            """
            computed Values not started anew
                pass
            What an earlier call left in a computed Value would be passed on once more: those start
            anew with every call.

            weights started anew too
                node.grad = 0.0
            A Value without parents keeps what it has and adds to it, so that several results can
            share it.

            only the weights started anew
                if not node.parents:
                            node.grad = 0.0
            It is the other way round: computed Values start anew, the others add up.
            """,
        ),
        *slips(
            "root.grad += 1.0",
            """
            root without its one
                pass
            The derivative of a result with respect to itself is 1: without it only zeros are
            passed on.

            root started from its number
                root.grad += root.data
            The way back starts with 1, the derivative of the root with respect to itself.
            """,
        ),
        Mistake(
            "only the root started anew",
            RESET + "\n    root.grad += 1.0",
            "pass\n    root.grad = 1.0",
            "Inner Values start anew too: what an earlier call left there would be passed on.",
        ),
        Mistake(
            "root without parents overwritten",
            "root.grad += 1.0",
            "root.grad = 1.0",
            "A root that was not computed adds to what it has, as all Values without parents do.",
        ),
        Mistake(
            "only the root's parents",
            "for node in reversed(order):",
            "for node in order:",
            "Nothing arrives beyond the root's parents. Go through the whole history, and begin at "
            "the root: a Value passes on what it has received before.",
        ),
        *written(
            """
            passed on before it is whole
                def backward(root):
                    for node in topological_order(root):
                        if node.parents:
                            node.grad = 0.0
                    root.grad += 1.0
                    waiting = [root]
                    while waiting:
                        node = waiting.pop(0)
                        for parent, local in zip(node.parents, node.local_grads):
                            parent.grad += local * node.grad
                            waiting.append(parent)
            A Value with two uses is passed on twice, the second time with the first share in it.
            Wait until its gradient is whole: the topological order is for that.

            passed on at the first visit
                def backward(root):
                    for node in topological_order(root):
                        if node.parents:
                            node.grad = 0.0
                    root.grad += 1.0
                    waiting, seen = [root], {id(root)}
                    while waiting:
                        node = waiting.pop(0)
                        for parent, local in zip(node.parents, node.local_grads):
                            parent.grad += local * node.grad
                            if id(parent) not in seen:
                                seen.add(id(parent))
                                waiting.append(parent)
            A Value may be reached first by a short way, while a share is still on its way along a
            longer one. The topological order waits for all of them.
            """
        ),
        Mistake(
            "root not cleared",
            "if node.parents:",
            "if node.parents and node is not root:",
            "The root was computed too, so it starts anew: what an earlier call left in it is "
            "forgotten.",
        ),
    ],
    variants=variants(
        """
        totals in a dict
            def backward(root):
                order = topological_order(root)
                total = {id(node): 0.0 for node in order}
                total[id(root)] = 1.0
                for node in order[::-1]:
                    for i, parent in enumerate(node.parents):
                        total[id(parent)] += total[id(node)] * node.local_grads[i]
                for node in order:
                    node.grad = total[id(node)] + (node.grad if not node.parents else 0.0)

        the root first
            def backward(root):
                order = list(reversed(topological_order(root)))
                for node in order:
                    node.grad = node.grad if len(node.parents) == 0 else 0.0
                root.grad = root.grad + 1
                for node in order:
                    for parent, local in zip(node.parents, node.local_grads):
                        parent.grad = parent.grad + node.grad * local

        without the earlier function
            def backward(root):
                done, stack, order = set(), [(root, 0)], []
                while stack:
                    node, i = stack.pop()
                    if id(node) in done:
                        continue
                    if i < len(node.parents):
                        stack.append((node, i + 1))
                        stack.append((node.parents[i], 0))
                    else:
                        done.add(id(node))
                        order.append(node)
                        if node.parents:
                            node.grad = 0.0
                root.grad += 1.0
                while order:
                    node = order.pop()
                    for parent, local in zip(node.parents, node.local_grads):
                        parent.grad += node.grad * local
        """
    ),
)

DEPTHS = "several uses at several depths"


@backward.test(
    points=2,
    cases=cases(
        *(
            (title, once, history_of(title))
            for title in HISTORIES
            if title not in ("a tree", "the same, the other way round", "a single Value")
        ),
        ("a Value with no history", once, history_of("a single Value")),
        (
            "a long chain",
            down_a_chain,
            lambda make: {"slopes": make.uniform(DEEP, low=0.999, high=1.001).tolist()},
        ),
    ),
)
def test_applies_the_chain_rule(submission, case):
    """Adds up the shares of every path"""
    submission.matches_reference(case)


@backward.test(
    points=2,
    cases=cases(
        ("the same result twice", twice, history_of(DEPTHS)),
        ("one operation twice", twice, history_of("one operation")),
        ("a result and another that uses it", two_results, history_of(DEPTHS, other=4)),
        ("a weight that has a gradient already", with_earlier, history_of(DEPTHS, earlier=True)),
        (
            "an earlier gradient in a root with no history",
            with_earlier,
            history_of("a single Value", earlier=True),
        ),
    ),
)
def test_knows_what_to_keep(submission, case):
    """Adds to what weights have, and starts anew in what was computed"""
    submission.matches_on_device(case)


# ---------------------------------------------------------------- sgd_step


def stepped(impl, data, grads, lr, steps):
    nodes = [Node(number, (), ()) for number in data]
    held = list(nodes)
    for _ in range(steps):
        for node, grad in zip(held, grads, strict=True):
            node.grad += grad
        impl(nodes, lr)
    return {
        "the numbers": [node.data for node in held],
        "the gradients afterwards": [node.grad for node in held],
        "the list holds the same Values": all(a is b for a, b in zip(nodes, held, strict=True)),
    }


def parameters(n, steps=1):
    return lambda make: {
        "data": [number(make) for _ in range(n)],
        "grads": [number(make) for _ in range(n)],
        "lr": make.number(0.05, 0.5),
        "steps": steps,
    }


def step_by_torch(parameters, lr):
    tensors = [torch.tensor(p.data, dtype=torch.float64, requires_grad=True) for p in parameters]
    for tensor, parameter in zip(tensors, parameters, strict=True):
        tensor.grad = torch.tensor(parameter.grad, dtype=torch.float64)
    torch.optim.SGD(tensors, lr=lr).step()
    for tensor, parameter in zip(tensors, parameters, strict=True):
        parameter.data, parameter.grad = tensor.item(), 0.0


sgd_step = Exercise(
    "sgd_step",
    oracle=step_by_torch,
    mistakes=[
        *slips(
            "parameter.data -= lr * parameter.grad",
            """
            uphill
                parameter.data += lr * parameter.grad
            The gradient points uphill: move against it.

            learning rate left out
                parameter.data -= parameter.grad
            The step is lr times the gradient.

            old number forgotten
                parameter.data = -lr * parameter.grad
            The step is added to where the parameter was.

            number scaled
                parameter.data -= lr * parameter.grad * parameter.data
            The step does not depend on the number itself: lr times the gradient is all.
            """,
        ),
        Mistake(
            "gradient not cleared",
            "        parameter.grad = 0.0",
            "        pass",
            "Gradients add up from call to call: without clearing, the next step takes this one's "
            "along.",
        ),
        Mistake(
            "gradient cleared too early",
            "        parameter.data -= lr * parameter.grad\n        parameter.grad = 0.0",
            "        parameter.grad = 0.0\n        parameter.data -= lr * parameter.grad",
            "The gradient is cleared before it was used.",
        ),
        Mistake(
            "gradient cleared to None",
            "        parameter.grad = 0.0",
            "        parameter.grad = None",
            "A cleared gradient is 0.0 here, so that the next call of backward can add to it.",
        ),
        Mistake(
            "last parameter only",
            "    for parameter in parameters:",
            "    for parameter in parameters[-1:]:",
            "Every parameter takes the step.",
        ),
        Mistake.written(
            "new Values in the list",
            """
            def sgd_step(parameters, lr):
                for i, p in enumerate(parameters):
                    parameters[i] = type(p)(p.data - lr * p.grad, (), ())
            """,
            "Whoever else holds the parameters, a neuron say, does not see new Values: change the "
            "old ones.",
        ),
        *slips(
            "parameter.data -= lr * parameter.grad",
            """
            only the sign of the gradient
                parameter.data -= lr * ((parameter.grad > 0) - (parameter.grad < 0))
            The step is as long as the gradient says, not only in its direction.

            shared among the parameters
                parameter.data -= lr * parameter.grad / len(parameters)
            Every parameter takes its whole step: nothing is divided by how many there are.
            """,
        ),
        Mistake(
            "first parameter alone",
            "for parameter in parameters:",
            "for parameter in parameters[:1]:",
            "Only the first parameter moves: does the loop end too early?",
        ),
        *written(
            """
            a name moved in place of a Value
                def sgd_step(parameters, lr):
                    for parameter in parameters:
                        parameter = parameter - lr * parameter.grad
                        parameter.grad = 0.0
            This makes a new Value and gives it the loop's name; the parameter itself stays. Change
            the number
            inside it.
            """,
        ),
    ],
    variants=variants(
        """
        two loops
            def sgd_step(parameters, lr):
                for p in parameters:
                    p.data = p.data - lr * p.grad
                for p in parameters:
                    p.grad = 0.0

        by index
            def sgd_step(parameters, lr):
                for i in range(len(parameters)):
                    step = -lr * parameters[i].grad
                    parameters[i].data += step
                    parameters[i].grad -= parameters[i].grad

        a tuple assignment
            def sgd_step(parameters, lr):
                for p in parameters:
                    p.data, p.grad = p.data - p.grad * lr, 0.0
        """
    ),
)


@sgd_step.test(
    points=1,
    cases=cases(
        ("four parameters", stepped, parameters(4)),
        ("two steps", stepped, parameters(3, steps=2)),
    ),
)
def test_takes_a_step(submission, case):
    """Moves every parameter against its gradient, and clears the gradient"""
    submission.matches_on_device(case)
