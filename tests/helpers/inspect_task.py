"""Write an Inspect log with a model-graded scorer: `python inspect_task.py FORMAT FOLDER`.

It runs on an interpreter that has inspect-ai. Models are Inspect's mocks, and all texts are ours.
"""

import sys

import tiktoken
from inspect_ai import Task, eval as run_task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import match, model_graded_qa
from inspect_ai.solver import generate

TEMPLATE = "Asked: {question}\nSaid: {answer}\nSought: {criterion}\n{instructions}"
SAMPLES = [
    Sample(input="Which city is the capital of the blue island?", target="Azura", id="blue"),
    Sample(input="Which bird opens the red gate?", target="The finch", id=2),
]
ANSWERS = ["Azura, by the sea.", "The finch.", "I do not know.", "A finch does."]
GRADES = ["Right.\nGRADE: C", "Right.\nGRADE: C", "No city.\nGRADE: I", "Nearly.\nGRADE: P"]


class Encoding:
    """Count tokens without the vocabulary, which tiktoken would fetch."""

    def encode(self, text: str, **_: object) -> list[int]:
        return list(range(len(text) // 4 + 1))


def mock(name: str, texts: list[str]) -> object:
    outputs = [ModelOutput.from_content(name, text) for text in texts]
    return get_model(name, custom_outputs=outputs, memoize=False)


if __name__ == "__main__":
    tiktoken.get_encoding = lambda name: Encoding()
    grader = mock("mockllm/grader", GRADES)
    graded = model_graded_qa(
        template=TEMPLATE, instructions="End with GRADE: C, P or I.", model=grader
    )
    task = Task(SAMPLES, name="gates", solver=[generate()], scorer=[graded, match("any")], epochs=2)
    (log,) = run_task(
        task,
        model=mock("mockllm/model", ANSWERS),
        log_format=sys.argv[1],
        log_dir=sys.argv[2],
        display="none",
        max_samples=1,
    )
    print(log.status)
