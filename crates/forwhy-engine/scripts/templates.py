"""Writes tests/fixtures/templates.json: chat templates, and what transformers renders with them.

The templates here were written for this test, with constructs that published templates use. Those in
templates/ are the model families' own as their models have them (written down from memory, so a
blank or a sentence may differ from a certain release).

    python templates.py OUT.json        (transformers 5.23)
"""

import json
import sys
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

# Trimmed contents, headers, a system turn taken off the front by a slice, a default date.
HEADERS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{#- A comment. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: tools\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
"""

# A namespace searched backwards, thinking cut out of earlier turns, Python's string methods.
THINKING = """{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and thought is defined %}
            {{- '<|b|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|b|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|e|>\\n' }}
    {%- else %}
        {{- '<|b|>' + message.role + '\\n' + content + '<|e|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|b|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# Alternating turns or an exception, a renamed role, block tags on their own lines.
STRICT = """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}
{% set first = messages[0]['content'] | trim + '\\n\\n' %}
{% set rest = messages[1:] %}
{% else %}
{% set first = '' %}
{% set rest = messages %}
{% endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception("Conversation roles must alternate") }}
    {% endif %}
    {% if (message['role'] == 'assistant') %}
        {% set role = 'model' %}
    {% else %}
        {% set role = message['role'] %}
    {% endif %}
<turn>{{ role }}
{{ (first if loop.first else '') ~ message['content'] | trim }}<turn end>
{% if loop.last %}(last){% endif %}

{% endfor %}
{% if add_generation_prompt %}
<turn>model
{% endif %}
"""

# JSON, macros, filters, tests, inline conditions, eos.
JSON = """{%- macro show(m) -%}[{{ m.role | upper }}:{{ m['content'] | tojson }}]{%- endmacro -%}
{{ messages | tojson }}
{{ messages | tojson(indent=2) }}
{% for m in messages if m.role != 'system' %}{{ show(m) }}{{ eos_token if not loop.last else "" }}{% else %}none{% endfor %}
{% for key, value in messages[0].items() %}{{ key }}={{ value | length }};{% endfor %}
{{ messages | map(attribute='role') | join(', ') }} {{ (messages | last).content is string }} {{ messages[-1]['name'] is defined }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ true and not none }}
"""

PLAIN = dict(
    short=[("user", "Hi")],
    brief=[("system", "  Be brief.\n"), ("user", " What is <b>\"x\"</b> & 'y'? ü \U0001f600\n")],
    thought=[("user", "one"), ("assistant", "<think>\nhm\n</think>\n\ntwo"), ("user", "three")],
    thought_last=[("user", "one"), ("assistant", "<think>\nhm\n</think>\n\ntwo\n")],
    odd=[("system", ""), ("user", "a\\b\tc"), ("assistant", ""), ("user", "</think>"), ("assistant", "d")],
    not_alternating=[("user", "one"), ("user", "two")],
)

WEATHER = dict(
    name="get_weather",
    description="Says the weather of a place, \"now\" or later.",
    parameters={
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "e.g. Århus <or> 東京"},
            "days": {"type": "integer", "minimum": 0, "default": 1},
            "exact": {"type": "number", "enum": [0.1, 1e-05, 1e16, 2.0]},
        },
        "required": ["place"],
    },
)
CLOCK = dict(name="clock", description="", parameters={"type": "object", "properties": {}})


def call(id, name, arguments):
    return dict(id=id, name=name, arguments=arguments)


def turn(role, content, calls=(), result_of=None):
    turn = dict(role=role, content=content)
    if calls:
        turn["tool_calls"] = list(calls)
    if result_of:
        turn["tool_call_id"] = result_of
    return turn


ASK = turn("user", "Is it raining in 東京?")
ONE = turn("assistant", "", [call("a1b2c3d4e", "get_weather", '{"place": "東京", "days": 2, "exact": 1e-05}')])
RAIN = turn("tool", '{"rain": true, "mm": [0.5, "<b>"]}', result_of="a1b2c3d4e")
TWO = turn(
    "assistant",
    "Let me see.",
    [call("a1b2c3d4e", "get_weather", '{"z":{"y":[]},"a":null}'), call("f6g7h8i9j", "clock", "{}")],
)
NOON = turn("tool", "noon \\ ü", result_of="f6g7h8i9j")

# name -> (tools, messages)
TOOLED = dict(
    offered=([WEATHER], [turn("system", " Be brief. "), ASK]),
    none_called=([WEATHER, CLOCK], [ASK, turn("assistant", "I do not know."), turn("user", "Look!")]),
    called=([WEATHER, CLOCK], [ASK, ONE]),
    answered=([WEATHER], [ASK, ONE, RAIN]),
    finished=([WEATHER], [ASK, ONE, RAIN, turn("assistant", "It rains. \U0001f327"), turn("user", "Thanks")]),
    parallel=([CLOCK, WEATHER], [turn("system", "S"), ASK, TWO, RAIN, NOON]),
    again=([WEATHER], [ASK, ONE, RAIN, ONE, RAIN, turn("assistant", "Still.")]),
    no_definitions=([], [ASK, ONE, RAIN, turn("assistant", "Yes.")]),
    broken_arguments=([WEATHER], [ASK, turn("assistant", "", [call("a1b2c3d4e", "get_weather", '{"place": ')])]),
    short_id=([WEATHER], [ASK, turn("assistant", "", [call("1", "clock", "{}")]), turn("tool", "x", result_of="1")]),
)


def chats():
    for name, turns in PLAIN.items():
        yield name, [], [turn(role, content) for role, content in turns]
    for name, (tools, turns) in TOOLED.items():
        yield name, tools, turns


def as_transformers(message):
    """A message as transformers' documentation wants it: calls wrapped, arguments parsed."""
    message = dict(message)
    calls = []
    for c in message.pop("tool_calls", []):
        try:
            arguments = json.loads(c["arguments"])
        except ValueError:
            arguments = c["arguments"]
        function = dict(name=c["name"], arguments=arguments)
        calls.append(dict(id=c["id"], type="function", function=function))
    id = message.pop("tool_call_id", None)
    if calls:
        message["tool_calls"] = calls
    if id:
        message["tool_call_id"] = id
    return message


def render(template, tools, messages, prompt):
    rendered, _ = render_jinja_template(
        conversations=[[as_transformers(m) for m in messages]],
        tools=[dict(type="function", function=t) for t in tools] or None,
        chat_template=template,
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
        # Templates that would write today's date take this one.
        date_string="26 Jul 2024",
    )
    return rendered[0]


def case(name, template):
    renders = []
    for chat, tools, messages in chats():
        for prompt in (False, True):
            row = dict(chat=chat, prompt=prompt)
            try:
                row["text"] = render(template, tools, messages, prompt)
            except jinja2.exceptions.UndefinedError:
                continue  # an accident in a template, with no words to compare
            except jinja2.exceptions.TemplateError as error:
                row["error"] = str(error)
            renders.append(row)
    return dict(name=name, template=template, renders=renders)


def main(out):
    templates = dict(headers=HEADERS, thinking=THINKING, strict=STRICT, json=JSON)
    for path in sorted(Path(__file__).with_name("templates").glob("*.jinja")):
        templates[path.stem] = path.read_text()
    cases = [case(name, template) for name, template in templates.items()]
    chat_table = {name: dict(tools=tools, messages=turns) for name, tools, turns in chats()}
    data = dict(about="written by scripts/templates.py; see there", chats=chat_table, cases=cases)
    out.write_text(json.dumps(data, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
