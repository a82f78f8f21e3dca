"""What answers mark as their answer, in the forms that models really write."""

from __future__ import annotations

import pytest

from prefdelta.core.records import Sample, Span
from prefdelta.evaluation.extraction import boxed, complete, last_number, marked_number, stated_number, stated_text
from prefdelta.evaluation.scoring import Score, choice, final_number


def written(text: str, finish: str = "stop") -> Sample:
    return Sample("", (Span(text),), finish, tokens=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Let me think. Maybe the answer is True. No. The answer is False.", "False"),
        ("The answer is (B). I hope this helps!", "(B)"),
        ("So the answer is True. This is because not False is True.", "True"),
        ("So the answer is (A).", "(A)"),
        ("The answer is **(A)**.", "(A)"),
        ("The answer is:\n(A)", "(A)"),
        ('Thus, the final answer is "Yes"\n', "Yes"),
        ("The answer is 24 apples.", "24 apples"),
        ("The answer is (A) because it is big.", "(A)"),
        ("The answer is not True. The answer is False", "False"),
        ("The answer is False. The answer is not True.", "False"),
        ("The answer is yes, because he can.", "yes"),
        ("The answer is True since a or b.", "True"),
        ("**The answer is:** No. He cannot", "No"),
        ("The answer is **No.** He", "No"),
        ("The answer is 3.14. Done.", "3.14"),
        ("The answer is Dr. Smith. He is", "Dr. Smith"),
        ("The answer is J. K. Rowling. She", "J. K. Rowling"),
        ("The answer is B. I hope", "B"),
        ("Answer: valid", "valid"),
        ("### Final Answer\n\ninvalid\n", "invalid"),
        ("the answer is apple because cat dog.", "apple"),
        ("The answer is: ] ) >", "] ) >"),
        ('The answer is "] ) >".', "] ) >"),
        ("The answer is 12/25/2020.", "12/25/2020"),
        ("The answer is U.S. dollars. They", "U.S. dollars"),
        ("The answer is\n\n**True**\n\nbecause", "True"),
        ("The answer is Yes! I'm sure.", "Yes"),
        ("I do not know", None),
        ("The answer is wrong. So the answer is 5.", "5"),
        ("The answer is 5. That answer is wrong? No", "5"),
    ],
)
def test_a_statement_ends_with_its_sentence_and_the_last_one_counts(text: str, said: str | None) -> None:
    assert stated_text(text) == said


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(I) is incorrect", None),
        ("The answer is (I) is incorrect", "I"),
        ("A and E", None),
        ("The answer is A and E.", None),
        ("The answer is (A) and (E).", None),
        ("either A or B", None),
        ("The answer is either A or B", None),
        ("The answer is either (A) or (B).", None),
        ("The answer is A or B", None),
        ("The answer is not B.", None),
        ("The answer is not (B). It must be (C)", "C"),
        ("The answer is not (A) but (B).", "B"),
        ("B", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B. Paris", "B"),
        ("B) Paris", "B"),
        ("(B) Paris", "B"),
        ("Answer: B: Paris", "B"),
        ("\\boxed{B}", "B"),
        ("$\\boxed{\\text{(B)}}$", "B"),
        ("\\boxed{\\text{B. Paris}}", "B"),
        ("The correct option is B.", "B"),
        ("The best choice is (C).", "C"),
        ("The answer is option D", "D"),
        ("The answer is I think B", None),
        ("The answer is I.", "I"),
        ("The answer is I", "I"),
        ("The answer is A dog", None),
        ("The answer is A because", "A"),
        ("The answer is B, not C", "B"),
        ("The answer is B rather than C", "B"),
        ("Not (B)", None),
        ("(B) is right. (I) is incorrect.", "B"),
        ("The answer is B/C", None),
        ("The answer is A, B and C", None),
        ("The answer is A, B, C.", None),
        ("The answer is B, A is too small.", "B"),
        ("The answer is (B) Paris, and (C) is wrong", "B"),
        ("**Answer:** B", "B"),
        ("### Answer\nB", "B"),
        ("The answer is A. Wait. The answer is either A or B.", None),
        ("I choose (B).", "B"),
        ("(A) and (B)", None),
        ("(A) or (B)", None),
        ("It is (C), not (B).", "C"),
        ("We can rule out (A). We can eliminate (B). So (C). (D) cannot be.", "C"),
        ("The answer is (B) and I hope this helps", "B"),
        ("The answer is B and C", None),
        ("The answer is A-C", None),
        ("<answer>A and E</answer>", None),
        ("<answer>I think B</answer>", "B"),
        ("<answer>B</answer>", "B"),
        ("<answer>Both A and B</answer>", None),
        ("The answer to the question is (D).", "D"),
        ("Answer: (B)\n\nExplanation: (A) is wrong because...", "B"),
        ("The answer should be C", "C"),
        ("The answer is: $\\boxed{D}$.", "D"),
        ("The answer is none of these", None),
        ("The final answer is therefore B.", "B"),
        ("Final Answer: The final answer is $\\boxed{C}$", "C"),
        ("The answer is (A) or (A).", "A"),
        ("The answer is (B). Wait, no, (C).", "C"),
        ("The answer is (B), no, (C).", "C"),
        ("The answer is B. No wait, it should be (C).", "C"),
        ("<answer>B</answer> Scratch that, I made a mistake.", None),
        ("The answer is B. Let me reconsider. It may be anything.", None),
        ("The answer is B.\n\nCorrection: C", "C"),
        ("The answer is (B). Wait, that's right.", "B"),
        ("(A) has no proof. There is no C, no D. The answer is B. There is no other.", "B"),
        ("I was wrong about A. The answer is B.", "B"),
        ("The answer is 'E'.", "E"),
        ("The answer is ‘E’.", "E"),
        ("The answer is A's sister.", None),
        ("The answer is D-glucose.", None),
        ("The answer is C++.", None),
        ("The answer is option A or B depending on x.", None),
        ("(A) 5 (B) 6 (C) 7 (D) 8", None),
        ("So: (A) means x. (B) means y. (C) means z.", None),
        ("(A) is small. (B) is small. (C) is right.", "C"),
        ("(A) 5 (B) 6 (C) 7. I take (B)", "B"),
        ("Therefore, option F is the correct answer.", "F"),
        ("**C** is therefore the best choice, since (D) needs more.", "C"),
        ("We ask whether B is the correct answer. It may be.", None),
        ("If the answer was B, x would be 2. So (D).", "D"),
    ],
)
def test_letters(text: str, letter: str | None) -> None:
    assert choice(written(text), ["B"]).parsed == letter


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 18. There are 7 days.", "18"),
        ("Answer: 12 apples", "12"),
        ("The answer is $1,234.50.", "1234.5"),
        ("\\boxed{1{,}234}", "1234"),
        ("\\boxed{1\\,234\\text{ dollars}}", "1234"),
        ("\\boxed{-5}", "-5"),
        ("\\boxed{$-5$}", "-5"),
        ("The answer is **42**.", "42"),
        ("The answer is 50%.", "50"),
        ("\\boxed{50\\%}", "50"),
        ("the answer is 3/4 of a cup.", "3/4"),
        ("\\boxed{1\\frac{1}{2}}", "3/2"),
        ("\\boxed{1 1/2}", "3/2"),
        ("\\boxed{\\frac12}", "1/2"),
        ("\\boxed{x = 5}", "5"),
        ("#### 18\n", "18"),
        ("The answer is 2 * 9 = 18.", "18"),
        ("The answer is that in 7 days she makes 126 dollars.", "126"),
        ("The answer is about 3 miles.", "3"),
        ("€18", "18"),
        ("\\boxed{18\\text{ km}}", "18"),
        ("\\boxed{5cm}", "5"),
        ("\\boxed{3.0 \\times 10^{4}}", "30000"),
        ("1.5e3", "1500"),
        ("The answer is 17. No, wait. The answer is 18.", "18"),
        ("The answer is not 17. It is 18", "18"),
        ("The answer is -3.", "-3"),
        ("The answer is −3.", "-3"),
        ("The answer is $-3$.", "-3"),
        ("The answer is \\(18\\).", "18"),
        ("The answer is 18", "18"),
        ("so 18 is it", "18"),
        ("The answer is $18 per day, for 7 days.", "18"),
        ("\\boxed{\\$18}", "18"),
        ("\\boxed{90^\\circ}", "90"),
        ("The answer is 12 (3 each).", "12"),
        ("\\boxed{\\text{18}}", "18"),
        ("The total is 10:30", "30"),
        ("The answer is 17. But wait, it is 18.", "18"),
        ("The answer is 17.\nNo, 18.", "18"),
        ("The answer is 3 / 4.", "3/4"),
        ("The answer is 18, which is 3 more than 15.", "18"),
        ("The answer is minus 5.", "-5"),
        ("The answer is negative 5 degrees.", "-5"),
        ("The answer is ½.", "1/2"),
        ("\\boxed{2½}", "5/2"),
        ("The answer is 12 = 3 × 4.", "12"),
        ("Il y en a 1 800.", "1800"),
        ("Answer: She sells 16 - 3 - 4 = 9 eggs. So she makes 9 * 2 = 18 dollars.", "18"),
        ("### Answer\n\nThere are 3 boxes of 4.\nThat makes 12.", "12"),
        ("Answer: x = 18. Check: 9 + 9.", "18"),
        ("Answer: 18 apples. (3 of them are red.)", "18"),
        ("I ask whether the answer is 5. It is 18.", "18"),
    ],
)
def test_numbers(text: str, number: str) -> None:
    assert final_number(written(text), [number]).value == 1
    assert final_number(written(text), ["98765"]).value == 0


@pytest.mark.parametrize(
    "text",
    ["The answer is between 3 and 4.", "The answer is 3 to 4.", "The answer is 1,2,3.", "The answer is 3, 4, 5."],
)
def test_a_range_or_a_list_is_no_number(text: str) -> None:
    assert stated_number(text) is None


@pytest.mark.parametrize(
    "text",
    ["between 3 and 4", "3 to 4", "3-4", "3–4 days", "3 - 4", "12,000-15,000", "2024-05-12", "3:30", "3x", "3²", "5'3"],
)
def test_a_statement_of_digits_that_are_no_number_is_no_number_at_all(text: str) -> None:
    """The last number of the text does not take its place."""
    assert final_number(written(f"There are 12. The answer is {text}."), ["3"]).parsed is None


@pytest.mark.parametrize("digits", ["1,5", "1.000.000", "12.05.2024", "1.2.3", "12,34,567.8,9", "1,23456"])
def test_digits_that_points_or_commas_join_are_no_number(digits: str) -> None:
    assert stated_number(f"The answer is €{digits}.") is None
    assert last_number(f"Of {digits} it is 7.") == 7


@pytest.mark.parametrize("digits", ["1.000.000", "12.05.2024", "1.2.3"])
def test_the_last_number_is_no_part_of_digits_that_points_join(digits: str) -> None:
    assert last_number(f"So it comes to {digits}.") is None


@pytest.mark.parametrize(
    ("text", "gold"), [("1 000 000.", 1_000_000), ("12 345 people.", 12_345), ("2 1/2", 2.5), ("2 1000", 2)]
)
def test_thousands_may_be_grouped_by_spaces(text: str, gold: float) -> None:
    assert marked_number(text) == gold


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{3x}",
        "\\boxed{x^2+3}",
        "\\boxed{18 or 19}",
        "18 or 19",
        "\\boxed{5+3}",
        "\\boxed{(3, 4)}",
        "\\boxed{3 \\text{ and } 5}",
        "\\boxed{x = 3, y = 5}",
        "\\boxed{x > 3}",
        "\\boxed{3 \\pm 2}",
        "\\boxed{(3, \\infty)}",
    ],
)
def test_expressions_and_alternatives_are_no_number(text: str) -> None:
    assert all(final_number(written(text), [gold]).value == 0 for gold in ("2", "3", "5", "8", "18", "19"))


@pytest.mark.parametrize(
    ("text", "number", "letter"),
    [
        ("The answer is 18", None, None),  # it may have become 180
        ("The answer is 18. So", "18", None),
        ("The answer is B", None, None),  # or Both
        ("The answer is (B) si", None, "B"),
        ("either (A) or (B)", None, None),
        ("first 6*3 = 18, then", None, None),
        ("#### 18\nand", "18", None),
    ],
)
def test_of_a_cut_off_answer_only_what_is_complete_counts(text: str, number: str | None, letter: str | None) -> None:
    assert final_number(written(text, "length"), ["18"]).parsed == number
    assert choice(written(text, "length"), ["B"]).parsed == letter


def test_boxes_may_hold_braces_and_need_an_end() -> None:
    assert boxed(r"\boxed{\frac{1}{2}} and \boxed{3")[1] == r"\frac{1}{2}"  # type: ignore[index]
    assert boxed(r"\fbox{a} \boxed {b}")[1] == "b"  # type: ignore[index]
    assert boxed(r"\boxed{\{1, 2\}}")[1] == r"\{1, 2\}"  # type: ignore[index]
    assert boxed("boxed{1}") is None


@pytest.mark.parametrize(
    "part", ["(A), ", "The answer is ", r"\boxed{", "The answer is (A). ", "<answer>", "1 or ", "#### ", "\n\n\n", "}{"]
)
def test_endless_repetition_is_read_in_bounded_time(part: str) -> None:
    """A model that loops writes thousands of marks; each is looked at once."""
    text = part * 20_000
    choice(written(text), ["A"])
    final_number(written(text), ["1"])
    stated_text(text)
    assert len(complete(text)) <= len(text)


def test_a_letter_before_endless_blank_lines_is_read_in_bounded_time() -> None:
    assert choice(written("A" + "\n" * 5000 + "then (B)"), ["B"]).value == 1


@pytest.mark.parametrize("number", ["7" * 5000, "1e" + "9" * 5000, "1/" + "3" * 5000])
def test_a_number_that_repeats_itself_without_end_is_none(number: str) -> None:
    """Python refuses to read more than 4,300 digits."""
    assert last_number(number) is None
    assert final_number(written(f"\\boxed{{{number}}}"), ["7"]) == Score(0.0, number)


@pytest.mark.parametrize(
    ("text", "whole"),
    [("so it is 42", "so it is "), ("it is 4.", "it is "), ("it is (B)", "it is (B)"), ("it is B\n", "it is B\n")],
)
def test_the_last_word_of_a_text_that_was_cut_off_may_be_unfinished(text: str, whole: str) -> None:
    assert complete(text) == whole
