"""The openai client and a task of inspect_ai with tool calls, against `forwhy serve`.

Usage: python peers.py http://127.0.0.1:PORT/v1

The server must offer a model `tiny` and a model `caller` that was taught to call the tool `add`
where it is offered and to say "Five." to its result (the test that starts this script does).
"""

import sys

import openai
from inspect_ai import Task, eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

QUESTION = "What is 2 + 3?"


def with_openai(base_url: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    cards = {card.id: card for card in client.models.list()}
    assert {"tiny", "caller"} <= set(cards), cards
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "seed": 3}
    whole = client.chat.completions.create(
        **ask, max_completion_tokens=20, n=2, logprobs=True, top_logprobs=2
    )
    assert len(whole.choices) == 2 and whole.usage.completion_tokens > 0
    assert whole.system_fingerprint == cards["tiny"].weights_hash
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    stream = client.chat.completions.create(
        **ask, max_completion_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    assert text == whole.choices[0].message.content and usage.total_tokens > 0
    scored = client.completions.create(
        model="tiny", prompt="ab", max_tokens=0, echo=True, logprobs=1
    )
    assert scored.choices[0].logprobs.token_logprobs[0] is None
    try:
        client.chat.completions.create(**ask, response_format={"type": "json_object"})
        raise AssertionError("response_format was accepted")
    except openai.BadRequestError as error:
        assert error.param == "response_format"
    definition = {"name": "add", "parameters": {"type": "object", "properties": {}}}
    called = client.chat.completions.create(
        model="caller",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[{"type": "function", "function": definition}],
        temperature=0,
    )
    assert called.choices[0].finish_reason == "tool_calls", called
    assert called.choices[0].message.tool_calls[0].function.name == "add"
    print("openai", openai.__version__, "ok")


@tool
def add():
    async def execute(x: int, y: int):
        """Add two numbers.

        Args:
            x: First number.
            y: Second number.
        """
        return str(x + y)

    return execute


def with_inspect(base_url: str) -> None:
    model = get_model(
        "openai-api/forwhy/caller",
        base_url=base_url,
        api_key="none",
        # by default it demands arguments that are certain to fit the schema
        strict_tools=False,
        config=GenerateConfig(temperature=0.0, max_tokens=120, seed=1, max_retries=0),
    )
    task = Task(
        dataset=[Sample(input=QUESTION, target="Five")],
        solver=[use_tools(add()), generate()],
        scorer=includes(),
    )
    log = inspect_eval(task, model=model, display="none", log_dir="logs")[0]
    assert log.status == "success", log.error
    messages = log.samples[0].messages
    assert [m.role for m in messages] == ["user", "assistant", "tool", "assistant"], messages
    assert messages[2].text == "5" and "Five" in messages[3].text
    assert log.results.scores[0].metrics["accuracy"].value == 1.0
    print("inspect_ai ok:", " -> ".join(m.role for m in messages))


if __name__ == "__main__":
    with_openai(sys.argv[1])
    with_inspect(sys.argv[1])
